// graphile-worker: PostgreSQL, LISTEN/NOTIFY. It has start times and no limit of its rate. The jobs of a worker that
// is gone stay locked for four hours, which can't be changed.
import pg from "pg";
import { makeWorkerUtils, run } from "graphile-worker";
import { atOnce, batches, databaseUrl, main, start, startOf } from "./contract.mjs";

let utils;

async function tools() {
  utils ??= await makeWorkerUtils({ connectionString: databaseUrl, logger: undefined });
  return utils;
}

await main({
  async setup() {
    await (await tools()).migrate();
  },
  async enqueue(count, rpm) {
    for (const numbers of batches(count)) {
      await (await tools()).addJobs(
        numbers.map((number) => ({
          identifier: "job",
          payload: { number },
          ...(rpm ? { runAt: startOf(number, rpm) } : {}),
        })),
      );
    }
  },
  async add(number) {
    await (await tools()).addJob("job", { number });
  },
  async work() {
    const runner = await run({
      connectionString: databaseUrl,
      concurrency: atOnce,
      pollInterval: 500,
      taskList: { job: async ({ number }) => start(number) },
    });
    await runner.promise;
  },
  async pending() {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    const { rows } = await client.query("SELECT count(*) FROM graphile_worker.jobs WHERE attempts < max_attempts OR locked_at IS NOT NULL");
    await client.end();
    return Number(rows[0].count);
  },
  async close() {
    await utils?.release();
  },
});
