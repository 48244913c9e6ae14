"""Lanes of threads, with real threads."""

import asyncio
import threading

import pytest

from runner.web.threads import Busy, Threads
from tests.patience import wait_until


def run(scenario) -> list[str]:
    """Run a scenario on a loop with threads of its own; return the threads that ended."""
    ended: list[str] = []

    async def main() -> None:
        threads = Threads(
            asyncio.get_running_loop(), on_end=lambda: ended.append(threading.current_thread().name)
        )
        await scenario(threads)

    asyncio.run(main())
    return ended


def test_results_and_errors_are_returned():
    async def scenario(threads):
        lane = threads.lane(2, 10)
        assert await threads.run(lane, lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await threads.run(lane, lambda: 1 / 0)
        with pytest.raises(KeyboardInterrupt):
            await threads.run(lane, lambda: exec("raise KeyboardInterrupt"))

    run(scenario)


def test_full_lane_does_not_delay_another():
    async def scenario(threads):
        free = threading.Event()
        slow, quick = threads.lane(1, 10), threads.lane(1, 10)
        blocked = [threads.run(slow, free.wait) for _ in range(5)]
        assert await asyncio.wait_for(threads.run(quick, lambda: "here"), 60) == "here"
        free.set()
        assert all(await asyncio.gather(*blocked))

    run(scenario)


def test_client_gets_at_most_half_of_a_lane_while_others_wait():
    async def scenario(threads):
        free = threading.Event()
        lane = threads.lane(4, 100)
        greedy = [threads.run(lane, free.wait, client="greedy") for _ in range(20)]
        assert await asyncio.wait_for(threads.run(lane, lambda: "served", client="modest"), 60) == "served"
        free.set()
        await asyncio.gather(*greedy)

    run(scenario)


def test_jobs_beyond_the_queue_limit_are_refused():
    async def scenario(threads):
        free = threading.Event()
        lane = threads.lane(1, 2)
        accepted = [threads.run(lane, free.wait) for _ in range(3)]
        with pytest.raises(Busy):
            threads.run(lane, free.wait)
        free.set()
        await asyncio.gather(*accepted)

    run(scenario)


def test_clients_take_turns_however_many_jobs_one_of_them_has():
    async def scenario(threads):
        free, order = threading.Event(), []
        lane = threads.lane(1, 1000)
        jobs = [threads.run(lane, free.wait, client="first")]
        jobs += [threads.run(lane, lambda: order.append("flood"), client="flood") for _ in range(100)]
        jobs += [threads.run(lane, lambda: order.append("modest"), client="modest") for _ in range(2)]
        free.set()
        await asyncio.gather(*jobs)
        assert order[:4] == ["flood", "modest", "flood", "modest"]
        assert len(order) == 102
        assert lane.waiting == {}
        assert lane.waiting_count == 0

    run(scenario)


def test_client_with_the_most_jobs_makes_room_in_a_full_lane():
    async def scenario(threads):
        free = threading.Event()
        lane = threads.lane(1, 3)
        blocked = threads.run(lane, free.wait, client="first")
        flood = [threads.run(lane, lambda: "served", client="flood") for _ in range(3)]
        with pytest.raises(Busy):
            threads.run(lane, lambda: "served", client="flood")
        modest = threads.run(lane, lambda: "served", client="modest")
        free.set()
        assert await blocked
        assert await modest == "served"
        with pytest.raises(Busy):
            await flood[2]
        assert await asyncio.gather(*flood[:2]) == ["served"] * 2

    run(scenario)


def test_idle_threads_end_and_close_their_database_connections():
    async def scenario(threads):
        lane = threads.lane(3, 10)
        together = threading.Barrier(3)
        await asyncio.gather(*(threads.run(lane, together.wait) for _ in range(3)))
        assert len(threads.idle) == 3
        threads.end_idle(60)
        assert len(threads.idle) == 3
        threads.end_idle(-1)
        assert threads.idle == []
        # The lane still works.
        assert await threads.run(lane, lambda: 1) == 1
        threads.end_idle(-1)

    ended = run(scenario)
    wait_until(lambda: len(ended) == 4, "all four have ended")


def test_most_recently_used_thread_is_used_next():
    async def scenario(threads):
        lane = threads.lane(3, 10)
        together = threading.Barrier(3)
        await asyncio.gather(*(threads.run(lane, together.wait) for _ in range(3)))
        names = {await threads.run(lane, lambda: threading.current_thread().name) for _ in range(10)}
        assert len(names) == 1
        threads.end_idle(-1)

    run(scenario)
