"""procrastinate: PostgreSQL, LISTEN/NOTIFY. It has start times and no limit of its rate.

Jobs of a worker that is gone are found by its missing heartbeat and retried by a periodic task, as its documentation
on stalled jobs tells.
"""

import asyncio

import procrastinate
import psycopg

from benchmarks.peers import contract, record

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=contract.DATABASE_URL))
job = app.task(name="job", queue="jobs")(record.start)


async def _retry_stalled(context: object, timestamp: int) -> None:
    stalled = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=contract.RECOVERY_SECONDS)
    for each in stalled:
        await app.job_manager.retry_job(each)


retry_stalled = app.periodic(cron="*/5 * * * * *")(
    app.task(name="retry_stalled", queue="upkeep", queueing_lock="retry_stalled", pass_context=True)(
        _retry_stalled
    )
)


def setup() -> None:
    with app.open():
        app.schema_manager.apply_schema()


def enqueue(count: int, rpm: int) -> None:
    with app.open():
        if rpm:
            for number in range(count):
                job.configure(schedule_at=contract.start_of(number, rpm)).defer(number=number)
            return
        for numbers in contract.batches(count):
            job.batch_defer(*({"number": number} for number in numbers))


_opened = False


def add(number: int) -> None:
    global _opened
    if not _opened:
        app.open()
        _opened = True
    job.defer(number=number)


def work(rpm: int) -> None:
    async def run() -> None:
        async with app.open_async():
            await app.run_worker_async(
                concurrency=contract.AT_ONCE,
                fetch_job_polling_interval=0.5,
                update_heartbeat_interval=contract.RECOVERY_SECONDS / 3,
                stalled_worker_timeout=contract.RECOVERY_SECONDS,
            )

    asyncio.run(run())


def pending() -> int:
    with psycopg.connect(contract.DATABASE_URL) as connection:
        row = connection.execute(
            "SELECT count(*) FROM procrastinate_jobs"
            " WHERE task_name = 'job' AND status NOT IN ('succeeded', 'failed', 'cancelled')"
        ).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    contract.main(setup=setup, enqueue=enqueue, add=add, work=work, pending=pending)
