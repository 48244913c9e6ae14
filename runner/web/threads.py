"""Threads for work that blocks, shared out in lanes, so that one kind of work can't keep all of them.

Used by one event loop: everything but the work itself happens in the loop's thread, so there are no locks.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[], Any]


class Busy(Exception):
    """Too many jobs are waiting for this lane."""


@dataclass
class Job:
    work: Work
    client: str
    result: asyncio.Future[Any]


@dataclass
class Lane:
    """Jobs of one kind, of each client in turn. threads: how many run at once. longest: how many may wait."""

    threads: int
    longest: int
    running: int = 0
    # Of each client with waiting jobs, in the order in which the clients are served; and how many all have.
    waiting: dict[str, deque[Job]] = field(default_factory=dict)
    waiting_count: int = 0
    running_of: dict[str, int] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Let the job wait. If all places are taken, it gets one of the client that has the most. Raises Busy."""
        if self.waiting_count >= self.longest:
            most = max(self.waiting, key=lambda client: len(self.waiting[client]), default="")
            if len(self.waiting.get(job.client, ())) + 1 >= len(self.waiting.get(most, ())):
                raise Busy
            dropped = self.waiting[most].pop()
            self.waiting_count -= 1
            if not dropped.result.done():
                dropped.result.set_exception(Busy())
        self.waiting.setdefault(job.client, deque()).append(job)
        self.waiting_count += 1

    def next(self) -> Job | None:
        """The job to run next: of the client whose turn it is and who doesn't have half of the lane already."""
        at_most = (self.threads + 1) // 2
        for client in self.waiting:
            if not client or self.running_of.get(client, 0) < at_most:
                break
        else:
            return None
        jobs = self.waiting.pop(client)
        job = jobs.popleft()
        self.waiting_count -= 1
        if jobs:
            # At the end: everybody else has a turn first.
            self.waiting[client] = jobs
        return job


class Worker:
    """A thread that runs one job after another, until it is told to end."""

    def __init__(self, threads: "Threads") -> None:
        self.jobs: queue.SimpleQueue[tuple[Lane, Job] | None] = queue.SimpleQueue()
        self.idle_since = 0.0
        threading.Thread(target=self._run, args=(threads,), daemon=True).start()

    def _run(self, threads: "Threads") -> None:
        while queued := self.jobs.get():
            lane, job = queued
            outcome: Any
            try:
                outcome, failed = job.work(), False
            # Every exception, so that the request that waits for the result learns of it.
            except BaseException as error:
                outcome, failed = error, True
            # The server may have ended in the meantime, and its loop is closed: nobody waits for the result.
            with suppress(RuntimeError):
                threads.loop.call_soon_threadsafe(threads.finished, self, lane, job, outcome, failed)
            # A thread that waits must not keep a response of 100 MB alive.
            del queued, lane, job, outcome
        threads.on_end()


class Threads:
    """Runs the jobs of its lanes. on_end: called in each thread before it ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        self.loop = loop
        self.on_end = on_end
        self.lanes: list[Lane] = []
        self.idle: list[Worker] = []

    def lane(self, threads: int, longest: int) -> Lane:
        self.lanes.append(Lane(threads, longest))
        return self.lanes[-1]

    def run(self, lane: Lane, work: Work, *, client: str = "") -> asyncio.Future[Any]:
        """Run `work` in a thread, and return its future result. Raises Busy.

        client: on whose behalf. Clients take turns, and nobody's jobs take more than half of a lane.
        """
        job = Job(work, client, self.loop.create_future())
        lane.add(job)
        self._start_waiting()
        return job.result

    def finished(self, worker: Worker, lane: Lane, job: Job, outcome: Any, failed: bool) -> None:
        lane.running -= 1
        remaining = lane.running_of.pop(job.client) - 1
        if remaining:
            lane.running_of[job.client] = remaining
        worker.idle_since = self.loop.time()
        self.idle.append(worker)
        self._start_waiting()
        if job.result.cancelled():
            return
        if failed:
            job.result.set_exception(outcome)
        else:
            job.result.set_result(outcome)

    def end_idle(self, seconds: float) -> None:
        """End threads that have been idle for this long: each has a connection to the database."""
        before = self.loop.time() - seconds
        # The last one in is the first one out, so the longest idle stand first.
        while self.idle and self.idle[0].idle_since < before:
            self.idle.pop(0).jobs.put(None)

    def _start_waiting(self) -> None:
        for lane in self.lanes:
            while lane.running < lane.threads and (job := lane.next()):
                lane.running += 1
                lane.running_of[job.client] = lane.running_of.get(job.client, 0) + 1
                worker = self.idle.pop() if self.idle else Worker(self)
                worker.jobs.put((lane, job))
