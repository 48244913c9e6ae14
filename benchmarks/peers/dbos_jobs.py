"""DBOS: durable workflows in PostgreSQL, each of one step. It has a limit of its rate, kept by all workers together."""

import threading

import dbos
import psycopg

from benchmarks.peers import contract, record

QUEUE = "jobs"
dbos.DBOS(
    config={
        "name": "jobs",
        "system_database_url": contract.DATABASE_URL,
        "application_version": "1",
        "executor_id": "one",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
)
job = dbos.DBOS.workflow(name="job")(record.start)
client: dbos.DBOSClient | None = None


def setup() -> None:
    dbos.DBOS.launch()
    dbos.DBOS.destroy()


def enqueue(count: int, rpm: int) -> None:
    for number in range(count):
        add(number)


def add(number: int) -> None:
    global client
    client = client or dbos.DBOSClient(system_database_url=contract.DATABASE_URL)
    client.enqueue({"workflow_name": "job", "queue_name": QUEUE, "app_version": "1"}, number)


def work(rpm: int) -> None:
    dbos.DBOS.launch()
    # A sixtieth of the minute's limit in a second, so that the starts lie evenly.
    limiter = {"limit": max(1, rpm // 60), "period": 1.0} if rpm else None
    dbos.DBOS.register_queue(
        QUEUE,
        worker_concurrency=contract.AT_ONCE,
        limiter=limiter,
        polling_interval_sec=0.1,
        on_conflict="always_update",
    )
    threading.Event().wait()


def pending() -> int:
    with psycopg.connect(contract.DATABASE_URL) as connection:
        row = connection.execute(
            "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING', 'DELAYED')"
        ).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    contract.main(setup=setup, enqueue=enqueue, add=add, work=work, pending=pending)
