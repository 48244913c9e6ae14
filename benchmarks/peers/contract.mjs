// The contract of `contract.py` and the job of `record.py`, for Node.
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export const databaseUrl = process.env.PEER_DATABASE_URL;
export const redisUrl = process.env.PEER_REDIS_URL;
export const atOnce = 10;
export const recoverySeconds = 15;
const BATCH = 1000;

export async function start(number) {
  appendFileSync(process.env.PEER_RECORD, `[${number}, ${(performance.timeOrigin + performance.now()) / 1000}]\n`);
  const seconds = Number(process.env.PEER_JOB_SECONDS ?? 0);
  if (seconds) await sleep(seconds * 1000);
}

export function startOf(number, rpm) {
  return new Date((Number(process.env.PEER_START) + (number * 60) / rpm) * 1000);
}

export function* batches(count) {
  for (let first = 0; first < count; first += BATCH) {
    yield Array.from({ length: Math.min(BATCH, count - first) }, (_, index) => first + index);
  }
}

// verbs: setup(), enqueue(count, rpm), add(number), work(rpm), pending() and close().
export async function main(verbs) {
  const [verb, ...rest] = process.argv.slice(2);
  const [count, rpm] = rest.map(Number);
  if (verb === "setup") await verbs.setup();
  else if (verb === "enqueue") {
    const began = performance.now();
    await verbs.enqueue(count, rpm);
    answer({ seconds: (performance.now() - began) / 1000 });
  } else if (verb === "add") {
    const seconds = [];
    for (let number = 0; number <= count; number++) {
      const began = performance.now();
      await verbs.add(number);
      seconds.push((performance.now() - began) / 1000);
    }
    // The first one opens connections.
    answer({ seconds: seconds.slice(1) });
  } else if (verb === "work") {
    await verbs.work(count);
    return;
  } else if (verb === "pending") answer({ count: await verbs.pending() });
  else throw new Error(`${verb} is none of setup, enqueue, add, work, pending`);
  await verbs.close();
  process.exit(0);
}

function answer(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}
