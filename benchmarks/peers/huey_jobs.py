"""huey, in PostgreSQL. It has start times, looked at once a second, and no recovery of a job whose worker is gone."""

import huey

from benchmarks.peers import contract, record

queue = huey.PostgresHuey("jobs", dsn=contract.DATABASE_URL, results=False, utc=True)
job = queue.task(name="job")(record.start)


def setup() -> None:
    queue.pending_count()


def enqueue(count: int, rpm: int) -> None:
    for number in range(count):
        if rpm:
            job.schedule(args=(number,), eta=contract.start_of(number, rpm))
        else:
            job(number)


def add(number: int) -> None:
    job(number)


def work(rpm: int) -> None:
    queue.create_consumer(workers=contract.AT_ONCE, periodic=False, scheduler_interval=1, max_delay=0.5).run()


def pending() -> int:
    return int(queue.pending_count() + queue.scheduled_count())


if __name__ == "__main__":
    contract.main(setup=setup, enqueue=enqueue, add=add, work=work, pending=pending)
