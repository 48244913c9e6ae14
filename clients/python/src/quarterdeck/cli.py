"""The command line: `quarterdeck send ids.csv --queue crm --dry-run`."""

import argparse
import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO

import httpx

from quarterdeck.clients import Client
from quarterdeck.errors import ApiError
from quarterdeck.models import Plan, Task

BAR_CHARACTERS = 30
QUARTER = timedelta(minutes=15)
BLOCKS = " ▁▂▃▄▅▆▇█"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status: 1 if the service refused it, 2 if it can't be reached."""
    options = _parser().parse_args(arguments)
    if not options.token:
        print("Set QUARTERDECK_TOKEN, or pass --token.", file=sys.stderr)
        return 2
    try:
        with Client(options.url, options.token) as client:
            return int(options.command(client, options))
    except ApiError as error:
        print(error, file=sys.stderr)
        for place in error.errors[:20]:
            where = ", ".join(
                f"{name} {place[name]}" for name in ("line", "column", "index") if name in place
            )
            print(
                f"  {where or place.get('field') or place.get('parameter', '')}: {place['reason']}",
                file=sys.stderr,
            )
        return 1
    except httpx.TransportError as error:
        print(f"{options.url} can't be reached: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quarterdeck", description="Submit lists of IDs, and follow them.")
    parser.add_argument("--url", default=os.environ.get("QUARTERDECK_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--token", default=os.environ.get("QUARTERDECK_TOKEN", ""))
    commands = parser.add_subparsers(required=True)
    send = commands.add_parser("send", help="submit a file of IDs")
    send.set_defaults(command=_send)
    send.add_argument("file", type=Path, help="text, CSV or NDJSON, also .gz")
    send.add_argument("--name", help="of the task; by default the name of the file")
    send.add_argument("--queue")
    send.add_argument("--column", help="the column with the IDs")
    send.add_argument("--not-before", metavar="TIME")
    send.add_argument("--expires-at", metavar="TIME")
    send.add_argument("--deadline", metavar="TIME", help="refuse the list if it would be done later")
    send.add_argument("--max-failed-percent", type=float, metavar="N", help="on hold once more have failed")
    send.add_argument("--min-finished", type=int, metavar="N", help="IDs that finish before that counts")
    canary = "run the first IDs alone, and the others once enough of them have succeeded, as a percentage"
    send.add_argument("--canary", metavar="IDS:PERCENT", type=_canary, help=canary)
    send.add_argument("--start", choices=("next_window", "first_free"))
    send.add_argument("--reference", help="what you call it: kept with the task, and a filter")
    send.add_argument("--expect", type=int, metavar="N", help="refuse another number of IDs")
    send.add_argument("--skip-faults", action="store_true", help="skip entries that are not IDs")
    send.add_argument("--allow-peak", action="store_true")
    send.add_argument("--dry-run", action="store_true", help="show the plan and store nothing")
    send.add_argument("--key", help="an Idempotency-Key, to run the same command twice safely")
    send.add_argument("--follow", action="store_true", help="wait until everything is sent")
    follow = commands.add_parser("follow", help="wait until a task has ended")
    follow.set_defaults(command=_follow)
    follow.add_argument("task", type=int)
    outcomes = commands.add_parser("outcomes", help="print what became of IDs, a JSON object in each line")
    outcomes.set_defaults(command=_outcomes)
    outcomes.add_argument("--after", metavar="CURSOR", help="only what lies behind it")
    outcomes.add_argument("--queue")
    outcomes.add_argument("--task", type=int)
    outcomes.add_argument("--follow", action="store_true", help="go on with what comes, without end")
    return parser


def _canary(text: str) -> tuple[int, float]:
    """Read 100:98. ValueError for anything else."""
    ids, _, percent = text.partition(":")
    return int(ids), float(percent)


def _outcomes(client: Client, options: argparse.Namespace) -> int:
    rows = client.outcomes(after=options.after, queue=options.queue, task=options.task, follow=options.follow)
    for row in rows:
        print(json.dumps(row.raw), flush=options.follow)
    return 0


def _send(client: Client, options: argparse.Namespace) -> int:
    if not options.file.is_file():
        print(f"There is no file {options.file}.", file=sys.stderr)
        return 2
    size = options.file.stat().st_size
    accepted = client.submit(
        options.file,
        task_name=options.name or options.file.name,
        queue=options.queue,
        column=options.column,
        not_before=options.not_before,
        expires_at=options.expires_at,
        deadline=options.deadline,
        max_failed_percent=options.max_failed_percent,
        min_finished=options.min_finished,
        canary=options.canary,
        start=options.start,
        reference=options.reference,
        on_error="skip" if options.skip_faults else None,
        expect=options.expect,
        allow_peak=options.allow_peak,
        dry_run=options.dry_run,
        idempotency_key=options.key,
        progress=lambda sent: _bar("Sending", sent, size, sys.stderr),
    )
    _end_bar(sys.stderr)
    print(accepted.message)
    for warning in accepted.warnings:
        print(f"Warning: {warning}")
    print(draw(accepted.plan))
    if options.follow and accepted.task is not None:
        return _until_ended(client, accepted.task.id)
    return 0


def _follow(client: Client, options: argparse.Namespace) -> int:
    return _until_ended(client, options.task)


def _until_ended(client: Client, task_id: int) -> int:
    task: Task | None = None
    for task in client.follow(task_id):
        _bar(f"Task {task.id} {task.state}", task.finished_count, task.counts["ids"], sys.stderr)
    _end_bar(sys.stderr)
    assert task is not None
    states = ("succeeded", "failed", "cancelled", "expired")
    counted = ", ".join(f"{task.counts[name]:,} {name}" for name in states if task.counts[name])
    print(f"Task {task.id} is {task.state}: {counted or 'no IDs'}.")
    return 0 if not (task.counts["failed"] or task.counts["expired"]) else 1


def draw(plan: Plan) -> str:
    """Draw a plan: a line for each window, a column for each minute, as high as the fullest one."""
    most = max((b + a for w in plan.windows for b, a in zip(w.before, w.added, strict=True)), default=0)
    lines = [
        f"At most {plan.peak_per_minute:,} a minute (rpm {plan.rpm:,}), "
        f"from {_moment(plan.first_at)} to {_moment(plan.last_at)} UTC."
    ]
    for window in plan.windows:
        totals = [b + a for b, a in zip(window.before, window.added, strict=True)]
        columns = "".join(BLOCKS[-(-total * (len(BLOCKS) - 1) // most) if most else 0] for total in totals)
        # A window starts when it accepts lists, and runs in the next quarter-hour, as the line above says.
        lines.append(f"{window.starts_at + QUARTER:%Y-%m-%d %H:%M} |{columns}| {sum(window.added):,} IDs")
    return "\n".join(lines)


def _moment(at: datetime | None) -> str:
    return "now" if at is None else f"{at:%Y-%m-%d %H:%M}"


def _bar(label: str, done: int, total: int, to: TextIO) -> None:
    """Draw a progress bar on a terminal; nothing in a log."""
    if to.isatty():
        share = done / total if total else 1.0
        filled = round(BAR_CHARACTERS * share)
        to.write(f"\r{label} [{'#' * filled}{' ' * (BAR_CHARACTERS - filled)}] {share:4.0%}")
        to.flush()


def _end_bar(to: TextIO) -> None:
    if to.isatty():
        to.write("\n")


if __name__ == "__main__":
    sys.exit(main())
