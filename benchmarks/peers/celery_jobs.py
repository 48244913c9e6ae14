"""celery, on Redis, with late acknowledgement. It has a limit of its rate, kept by each worker for itself."""

import celery
import redis

from benchmarks.peers import contract, record

app = celery.Celery("jobs", broker=contract.REDIS_URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_transport_options={"visibility_timeout": contract.RECOVERY_SECONDS},
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
job = app.task(name="job")(record.start)


def setup() -> None:
    """The broker needs nothing."""


def enqueue(count: int, rpm: int) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            job.apply_async((number,), producer=producer)


def add(number: int) -> None:
    job.apply_async((number,))


def work(rpm: int) -> None:
    if rpm:
        job.rate_limit = f"{rpm}/m"
    app.worker_main(["worker", f"--concurrency={contract.AT_ONCE}", "--loglevel=ERROR", "--without-mingle"])


def pending() -> int:
    client = redis.Redis.from_url(contract.REDIS_URL)
    return int(client.llen("celery")) + int(client.hlen("unacked"))


if __name__ == "__main__":
    contract.main(setup=setup, enqueue=enqueue, add=add, work=work, pending=pending)
