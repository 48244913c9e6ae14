// pg-boss: PostgreSQL. It has start times and no limit of its rate. A job whose worker is gone is retried when its time
// is over, looked at once in `monitorIntervalSeconds`.
import { PgBoss } from "pg-boss";
import pg from "pg";
import { atOnce, batches, databaseUrl, main, recoverySeconds, start, startOf } from "./contract.mjs";

const QUEUE = "jobs";
const boss = new PgBoss({ connectionString: databaseUrl, superviseIntervalSeconds: 5, monitorIntervalSeconds: 5 });
boss.on("error", (error) => process.stderr.write(`${error}\n`));
let started = false;

async function opened() {
  if (!started) {
    await boss.start();
    started = true;
  }
  return boss;
}

await main({
  async setup() {
    await (await opened()).createQueue(QUEUE, { expireInSeconds: recoverySeconds, retryLimit: 20 });
  },
  async enqueue(count, rpm) {
    for (const numbers of batches(count)) {
      await (await opened()).insert(
        QUEUE,
        numbers.map((number) => ({ data: { number }, ...(rpm ? { startAfter: startOf(number, rpm) } : {}) })),
      );
    }
  },
  async add(number) {
    await (await opened()).send(QUEUE, { number });
  },
  async work() {
    await (await opened()).work(
      QUEUE,
      { batchSize: atOnce, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
      async (jobs) => {
        await Promise.all(jobs.map((job) => start(job.data.number)));
      },
    );
  },
  async pending() {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    const { rows } = await client.query(
      "SELECT count(*) FROM pgboss.job WHERE name = $1 AND state IN ('created', 'retry', 'active')", [QUEUE],
    );
    await client.end();
    return Number(rows[0].count);
  },
  async close() {
    if (started) await boss.stop({ graceful: false });
  },
});
