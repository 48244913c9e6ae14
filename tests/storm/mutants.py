"""Faults that are put into the code by hand: the storm has to find each of them.

`python -m tests.storm.mutants [NAME ...] [--seeds N] [--from N]` works on a copy of the repository. It plays storms
until one fails, and reports which. The exit code is 1 if a fault was not found.
"""

# ruff: noqa: E501

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("api", "dashboard", "operators", "runner", "scheduling", "settings", "static", "templates", "tests")
# A seed that never ends is found too: no other one takes this much CPU time.
SEED_SECONDS = 60


@dataclass(frozen=True)
class Mutant:
    """In a file of `scheduling`, `new` takes the place of `old`, which is there once."""

    name: str
    path: str
    old: str
    new: str


MUTANTS = (
    # --- dispatch ---
    Mutant("starts go on 10 s after the last commit", "dispatch/claims.py", "* 1000) + limits.UNCOMMITTED_MS", "* 1000) + 10_000"),
    Mutant("results of lost batches are recorded", "dispatch/claims.py", "if result.claim.batch_id not in lost]", "]"),
    Mutant("leases aren't renewed", "store/on_sqlite.py", "owned.update(lease_until=lease_until, ", "owned.update("),
    Mutant("allowed starts aren't renewed", "store/on_sqlite.py", "update(lease_until=lease_until, may_start_until_ms=may_start_until_ms)", "update(lease_until=lease_until)"),
    Mutant("unsent IDs aren't looked for again", "dispatch/claims.py", "                bucket_slots.return_to_waiting(self.buckets[result.claim.bucket_id], result.claim.key)", "                pass"),
    Mutant("places of unsent cancelled IDs stay taken", "dispatch/claims.py", "self.freed[claim.bucket_id] += 1", "self.freed[claim.bucket_id] += 0"),
    Mutant("an ID that was sent ends as cancelled", "dispatch/claims.py", "Status.FAILED if sent else Status.CANCELLED", "Status.CANCELLED"),
    Mutant("what wasn't sent counts as an attempt", "dispatch/claims.py", "claim.attempts + sent", "claim.attempts + 1"),
    Mutant("unsent IDs stay in their batches", "dispatch/claims.py", "        _remove_from_batches(self._unsent_batches, unsent)\n", ""),
    Mutant("a task is finished one ID too early", "dispatch/claims.py", 'deltas.get("in_flight_count", 0) == 0', 'deltas.get("in_flight_count", 0) < 0'),
    Mutant("starts aren't counted", "dispatch/claims.py", "                self.counters.started(claim.bucket_id)\n", "                pass\n"),
    Mutant("cancelled IDs of claims are sent again", "dispatch/claims.py", "return cancelled or (claim.task_id", "return (claim.task_id"),
    Mutant("a minute has more slots than its rpm", "dispatch/bucket_slots.py", "slots = max(bucket.capacity, ids)", "slots = bucket.capacity + ids + 2"),
    Mutant("free slots are given twice", "dispatch/bucket_slots.py", "bucket.cursor = free.stop", "bucket.cursor = free.start"),
    Mutant("passed slots leave nothing over", "dispatch/bucket_slots.py", "bucket.leftover_count += start - bucket.planned_cursor", "bucket.leftover_count += 0"),
    Mutant("returned IDs aren't claimed again", "dispatch/bucket_slots.py", "        bucket.claimed_to_id = key - 1", "        pass"),
    Mutant("slots that have long passed are used", "dispatch/bucket_slots.py", "from_seconds = elapsed - plan.tolerance_seconds", "from_seconds = elapsed - 45"),
    Mutant("a brake doesn't seal fewer slots", "dispatch/bucket_slots.py", "slots = min(slots, most)", "slots = max(slots, most)"),
    Mutant("possible repeats aren't named", "dispatch/recovery.py", "offset if offset * 1000 <= batch.may_start_until_ms else None", "None"),
    Mutant("recovered IDs of cancelled tasks wait", "dispatch/recovery.py", "ended = tasks[task_id].cancelled_at is not None or", "ended ="),
    Mutant("living workers' batches are recovered", "dispatch/recovery.py", "Q(lease_until__lt=at) |", "Q(lease_until__lt=at + limits.LEASE) |"),
    Mutant("a renewed lease is recovered", "dispatch/recovery.py", "list(_dead(at).filter(pk__in=batch_ids)", "list(models.Batch.objects.filter(pk__in=batch_ids)"),
    Mutant("one attempt more than allowed", "dispatch/results.py", "claim.attempts + 1 >= queue.max_attempts", "claim.attempts >= queue.max_attempts"),
    Mutant("retries of lost batches are placed", "dispatch/results.py", "if retry.claim.batch_id in owned]", "]"),
    Mutant("retries of cancelled tasks are placed", "dispatch/results.py", "if task.cancelled_at is not None}", "if task.cancelled_at is not None and not task}"),
    Mutant("late IDs move while a queue is paused", "dispatch/overdue.py", "        if queue.paused or queue.brake_per_minute == 0:\n            return 0\n", ""),
    Mutant("what still runs counts as late", "dispatch/overdue.py", "over = clock.minute_start(at - SETTLED) - clock.MINUTE", "over = clock.minute_start(at - SETTLED)"),
    Mutant("a sender doesn't wait for its worker", "dispatch/sender.py", "elif elapsed > self.may_start_until:", "elif elapsed > self.may_start_until + 60:"),
    Mutant("a sender goes on after its lease", "dispatch/sender.py", "if first.batch_id in self.lost_batches:", "if first.batch_id in ():"),
    Mutant("a pause doesn't reach the sender", "dispatch/minute_view.py", "return self.targets.blocked | held", "return frozenset(self.targets.blocked)"),
    Mutant("requests start long after their slots", "dispatch/sender.py", "until = first.offset + first.tolerance", "until = first.offset + first.tolerance + 45"),
    Mutant("a lost commit isn't looked up", "dispatch/minute_worker.py", "            self._in_doubt = True\n", ""),
    # --- placement ---
    Mutant("sealed minutes take IDs in", "placement/reservations.py", "(0 if minute.is_sealed else min(minute.capacity, capacity))", "min(minute.capacity, capacity)"),
    Mutant("late IDs go past rpm", "placement/reservations.py", "[minute.filled if minute else 0 for", "[max(0, minute.filled - 2) if minute else 0 for"),
    Mutant("moved IDs leave their places taken", "placement/ledger.py", "{b: -n for b, n in leaving.items()},\n        kind", "{b: -n + 1 for b, n in leaving.items()},\n        kind"),
    Mutant("expired lists are sent", "placement/moves.py", "elif minute > latest.get(row.key, minute) or minute >= (expires.get(row.task_id) or FAR):", "elif minute > latest.get(row.key, minute):"),
    Mutant("IDs that an edit removed move on", "placement/moves.py", "if (row.task_id, row.user_id) in removed:", "if (row.task_id, row.user_id) in ():"),
    Mutant("moves aren't kept", "placement/ledger.py", "        store.insert_moves(task_id, moves[task_id], reason=reason, at=at)\n    windows", "    windows"),
    Mutant("minutes of moved IDs aren't armed", "placement/ledger.py", "    minute_jobs.arm_windows(\n        (keys.starts_at_of_window(window) for window in sorted(windows)), at", "    dict(\n        at"),
    # --- store, as SQLite has it ---
    Mutant("outcomes overwrite whatever is there", "store/on_sqlite.py", "scheduling_assignment.id = json_extract(d.value, '$[0]') AND status = %s\",\n        [_json(rows), was]", "scheduling_assignment.id = json_extract(d.value, '$[0]') AND (status = %s OR 1)\",\n        [_json(rows), was]"),
    Mutant("claims overwrite whatever is there", "store/on_sqlite.py", "id IN (SELECT value FROM json_each(%s)) AND status = %s\"", "id IN (SELECT value FROM json_each(%s)) AND (status = %s OR 1)\""),
    Mutant("rows of cancelled tasks are claimed", "store/on_sqlite.py", 'stopped, in_canary = _excepted(ranges)\n    but', 'stopped, in_canary = [], _excepted(ranges)[1]\n    but'),
    Mutant("a cancel takes what was sent", "store/on_sqlite.py", "WHERE task_id = %s AND status = %s AND user_id IN", "WHERE task_id = %s AND (status = %s OR 1) AND user_id IN"),
    Mutant("moved rows keep their start", "store/on_sqlite.py", "        \" started_after_ms = NULL\"\n", "        \" started_after_ms = started_after_ms\"\n"),
    Mutant("outcomes of results aren't listed", "store/__init__.py", "        outcomes.add(key for key, status, *_ in rows if outcomes.is_outcome(status))\n", ""),
    Mutant("outcomes of IDs that are sent again are forgotten", "store/__init__.py", "            outcomes.keep(key for key, _ in pairs)\n", "            pass\n"),
    Mutant("outcomes that are recorded at once aren't listed", "store/recording.py", "Status.WAITING],\n    )\n    outcomes.add_range(first, last)\n\n\ndef _slot", "Status.WAITING],\n    )\n\n\ndef _slot"),
    Mutant("recorded rows count no attempt", "store/recording.py", "attempts = attempts + 1, started", "attempts = attempts, started"),
)  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm.mutants")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--from", dest="from_seed", type=int, default=0)
    options = parser.parse_args(arguments)
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    with tempfile.TemporaryDirectory(prefix="qd-mutants-") as directory:
        copy = Path(directory)
        for part in PARTS:
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "manage.py", copy)
        survivors = [mutant.name for mutant in chosen if not is_found(mutant, copy, options)]
    print(
        f"{len(chosen)} faults, {len(survivors)} not found{': ' if survivors else ''}{'; '.join(survivors)}."
    )
    return 1 if survivors else 0


def is_found(mutant: Mutant, copy: Path, options: argparse.Namespace) -> bool:
    """Whether a storm fails with this fault in the copy."""
    path = copy / "scheduling" / mutant.path
    before = path.read_text()
    assert before.count(mutant.old) == 1, (
        f"{mutant.name}: {mutant.path} has it {before.count(mutant.old)} times"
    )
    path.write_text(before.replace(mutant.old, mutant.new))
    began = time.monotonic()
    try:
        done = subprocess.run(
            [
                sys.executable, "-m", "tests.storm", "--first", "--seed-seconds", str(SEED_SECONDS),
                "--seeds", str(options.seeds), "--from", str(options.from_seed),
            ],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    finally:
        path.write_text(before)
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    if not failures and done.returncode:
        # If no seed reached a situation, no fault in it was found either.
        assert "Never reached" in done.stdout, f"{mutant.name}: no storm was played: {done.stderr[-1000:]}"
    verdict = f"found by {failures[0][7:140]}" if failures else "NOT FOUND"
    print(f"{mutant.name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
