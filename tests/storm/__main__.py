"""Run storms: `python -m tests.storm [SEED ...] [--seeds N] [--from N] [--processes N] [--trace] [--shrink]`.

The exit code is 1 if a seed fails, or if a state of the table was never reached in a run of 200 seeds or more.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm")
    parser.add_argument(
        "scenario",
        nargs="*",
        help="such as 17, or 17/clocks,3 without faults of clocks and action 3",
    )
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--from", dest="from_seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--shrink", action="store_true", help="leave out what a failure doesn't need")
    parser.add_argument("--first", action="store_true", help="end with the first failure")
    parser.add_argument(
        "--seed-seconds", type=float, default=0, help="a seed fails that takes more of the processor's time"
    )
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seeds and options.processes > 1:
        return _in_processes(options)
    from tests.storm import database

    database.set_up()
    from tests.storm.scenario import parse, scenario

    if options.scenario:
        scenarios = [parse(text) for text in options.scenario]
    else:
        step = int(options.part.split("/")[1]) if options.part else 1
        offset = int(options.part.split("/")[0]) if options.part else 0
        scenarios = [
            scenario(n) for n in range(options.from_seed + offset, options.from_seed + options.seeds, step)
        ]
    return _run(scenarios, options)


def _run(scenarios: list[Any], options: argparse.Namespace) -> int:
    from tests.storm import sometimes
    from tests.storm.shrink import shrink
    from tests.storm.storm import play

    failed, statements, began = [], 0, time.process_time()
    digest = hashlib.sha256()
    for item in scenarios:
        _limit(item, options.seed_seconds)
        storm, error = play(item)
        statements += storm.world.statements
        digest.update("\n".join(storm.world.trace).encode())
        if options.trace:
            print(*storm.world.trace, sep="\n")
        if error is not None:
            smallest = shrink(item, error) if options.shrink else item
            failed.append(str(smallest))
            print(f"FAILED {smallest}: {type(error).__name__}: {error}"[:1500], flush=True)
            if options.first:
                break
            if options.scenario:
                traceback.print_exception(error)
    report = {
        "failed": failed,
        "seconds": round(time.process_time() - began, 1),
        "digest": digest.hexdigest(),
        "statements": statements,
        "reached": dict(sometimes.REACHED),
    }
    if options.part:
        print("REPORT " + json.dumps(report))
        return 1 if failed else 0
    return _tell(report, len(scenarios))


def _limit(scenario: Any, seconds: float) -> None:
    """End this process once it has computed for this long. 0: never."""

    def end(*_: Any) -> None:
        print(f"FAILED {scenario}: it goes on for ever", flush=True)
        os._exit(1)

    signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _tell(report: dict[str, Any], count: int) -> int:
    from tests.storm.sometimes import EXPECTED

    missing = sorted(EXPECTED - report["reached"].keys())
    for name in sorted(EXPECTED):
        print(f"{report['reached'].get(name, 0):7} {name}")
    failed, statements, digest = len(report["failed"]), report["statements"], report["digest"][:16]
    print(
        f"{count} seeds, {failed} failed, {report['seconds']} s, {statements:,} statements, digest {digest}."
    )
    if missing and count >= 200:
        print(f"Never reached: {', '.join(missing)}.")
        return 1
    return 1 if report["failed"] else 0


def _in_processes(options: argparse.Namespace) -> int:
    command = [
        sys.executable,
        "-m",
        "tests.storm",
        "--seeds",
        str(options.seeds),
        "--from",
        str(options.from_seed),
    ]
    command += ["--shrink"] * options.shrink
    children = [
        subprocess.Popen(
            [*command, "--part", f"{n}/{options.processes}"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for n in range(options.processes)
    ]
    merged: dict[str, Any] = {"failed": [], "seconds": 0.0, "statements": 0, "digest": "", "reached": {}}
    for child in children:
        assert child.stdout is not None
        for line in child.stdout:
            if not line.startswith("REPORT "):
                print(line, end="", flush=True)
                continue
            report = json.loads(line.removeprefix("REPORT "))
            merged["failed"] += report["failed"]
            merged["statements"] += report["statements"]
            merged["seconds"] = max(merged["seconds"], report["seconds"])
            merged["digest"] = hashlib.sha256((merged["digest"] + report["digest"]).encode()).hexdigest()
            for name, times in report["reached"].items():
                merged["reached"][name] = merged["reached"].get(name, 0) + times
        if child.wait() not in (0, 1):
            print(f"A process of the storm ended with {child.returncode}.")
            return 2
    return _tell(merged, options.seeds)


if __name__ == "__main__":
    sys.exit(main())
