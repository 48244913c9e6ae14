// BullMQ, on Redis. It has a limit of its rate, kept by all workers together.
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import { atOnce, batches, main, recoverySeconds, redisUrl, start } from "./contract.mjs";

const QUEUE = "jobs";
// BullMQ asks for null: a worker waits for a Redis that is away.
const connection = new Redis(redisUrl, { maxRetriesPerRequest: null });
connection.on("error", (error) => process.stderr.write(`${error}\n`));
let queue;

function opened() {
  queue ??= new Queue(QUEUE, { connection });
  return queue;
}

await main({
  async setup() {
    await opened().waitUntilReady();
  },
  async enqueue(count) {
    for (const numbers of batches(count)) {
      await opened().addBulk(numbers.map((number) => ({ name: "job", data: { number }, opts: { removeOnComplete: true } })));
    }
  },
  async add(number) {
    await opened().add("job", { number }, { removeOnComplete: true });
  },
  async work(rpm) {
    const worker = new Worker(QUEUE, async (job) => start(job.data.number), {
      connection,
      concurrency: atOnce,
      lockDuration: recoverySeconds * 1000,
      stalledInterval: recoverySeconds * 1000,
      maxStalledCount: 20,
      // A sixtieth of the minute's limit in a second, so that the starts lie evenly.
      ...(rpm ? { limiter: { max: Math.max(1, Math.floor(rpm / 60)), duration: 1000 } } : {}),
    });
    worker.on("error", (error) => process.stderr.write(`${error}\n`));
  },
  async pending() {
    const counts = await opened().getJobCounts("waiting", "active", "delayed", "prioritized", "paused");
    return Object.values(counts).reduce((sum, count) => sum + count, 0);
  },
  async close() {
    await queue?.close();
  },
});
