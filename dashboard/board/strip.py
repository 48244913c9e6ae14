"""The board's strip: alarms, each with a sign and the button that helps, and a line that sums up what is
working.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.urls import reverse

from dashboard import addresses, formatting
from dashboard.board.viewpoint import Viewpoint, link
from dashboard.formatting import plural
from dashboard.markup import Markup, Part, join, markup
from scheduling.reports.cards import BlockedTarget, Board, LateIds, QueueTab, Undelivered, WatchedTask
from scheduling.reports.health import Health

ALL = "*"
# That many jobs may wait at any time without being a problem.
MANY_JOBS = 20
SLOW_SECONDS = 1
# More alarms of one kind are combined: pausing all queues must not push the bars off the page.
EACH = 3
# The signs of chips. Each stands beside words.
GOOD, BAD, NOTICE = Markup("&check;"), Markup("&#10005;"), Markup("!")
LATE, PAUSED = Markup("&#9684;"), Markup("&Vert;")
DOT = Markup(" &middot; ")
ALARMS = '<div class="row trouble" id="alarms" role="group" aria-label="What needs attention" data-alarms="%s">%s</div>'
HEALTH = '<p class="health quiet small" id="health">%s</p>'


def strip(board: Board, viewpoint: Viewpoint) -> list[Part]:
    """Draw the alarms, and below them a line that sums up what is working.

    Both keep their height, so that a new alarm doesn't shift the page.
    """
    chips = alarms(board, viewpoint)
    shown = join(chips) or _chip("good", GOOD, "All well: nothing is late, blocked or paused")
    return [
        Part("alarms", markup(ALARMS, len(chips), shown)),
        Part("health", markup(HEALTH, join(_well(board.health, viewpoint), DOT))),
    ]


def alarms(board: Board, viewpoint: Viewpoint) -> list[Markup]:
    """What needs attention, each with its sign and the button that helps."""
    undelivered = (_undelivered(channel) for channel in board.undelivered[:EACH])
    return [*_silence(board.health, viewpoint), *_trouble(board, viewpoint), *undelivered]


def _chip(kind: str, sign: Markup, *text: Any) -> Markup:
    return markup(
        '<span class="chip %s"><span class="sign" aria-hidden="true">%s</span>%s</span>',
        *(kind, sign, _text(*text)),
    )


def _text(*parts: Any) -> Markup:
    return join(markup("%s", part) for part in parts)


def _silence(health: Health, viewpoint: Viewpoint) -> Iterator[Markup]:
    """Yield alarms about disks, clusters and late quarter-hours."""
    for volume in health.low_disks:
        free = f"{formatting.size(volume.free_bytes)} free"
        yield _chip("bad", BAD, f"The disk with {volume.name} is nearly full: {free}")
    if health.missing:
        yield _chip("bad", BAD, _missing(health, viewpoint), ": lists are accepted, nothing is sent")
    else:
        for cluster in health.silent:
            silent = f"{plural(cluster.silent_count, 'cluster')} {cluster.name}: silent since "
            since = viewpoint.moment_or_blank(cluster.silent_since)
            yield _chip("bad", BAD, silent, since, "; another one is doing its work")
    for problem in health.host_problems:
        yield _chip("bad", BAD, problem)
    if health.quarter_is_late:
        last = Markup("never")
        if health.quarter_at:
            age = _age(health.quarter_ran_at or health.quarter_at, health)
            last = _text(viewpoint.moment(health.quarter_at), ", ", age, " ago")
        yield _chip("bad", BAD, "last quarter-hour run: ", last, "; the next one totals what was missed")
    if health.jobs_waiting > MANY_JOBS:
        yield _chip("notice", NOTICE, f"{plural(health.jobs_waiting, 'job')} waiting")
    if health.minute_at is not None and (health.minute_lag or 0) > SLOW_SECONDS:
        yield _chip("notice", NOTICE, _minute(health, health.minute_at, viewpoint))


def _minute(health: Health, at: datetime, viewpoint: Viewpoint) -> Markup:
    return _text(viewpoint.clock(at), f" started {formatting.lag(health.minute_lag)}")


def _well(health: Health, viewpoint: Viewpoint) -> Iterator[Markup]:
    """Yield what is working."""
    if not health.missing:
        alive, workers = plural(len(health.alive), "cluster"), plural(health.workers, "worker")
        yield _text(f"{alive}, {workers}, last seen ", _age(health.seen_at, health), " ago")
    if health.minute_at is not None and health.minute_lag is not None and health.minute_lag <= SLOW_SECONDS:
        yield _minute(health, health.minute_at, viewpoint)
    if health.quarter_at and health.quarter_ran_at and not health.quarter_is_late:
        age = _age(health.quarter_ran_at, health)
        yield _text("quarter-hour ", viewpoint.clock(health.quarter_at), " processed ", age, " ago")
    if health.jobs_waiting <= MANY_JOBS:
        yield _text(f"{plural(health.jobs_waiting, 'job')} waiting")


def _missing(health: Health, viewpoint: Viewpoint) -> Markup:
    """Name the clusters without which nothing is sent."""
    silent = [
        _text(f"cluster {cluster.name}: silent since ", viewpoint.moment_or_blank(cluster.silent_since))
        for cluster in health.silent
    ]
    return join(silent, Markup(", ")) or _text(f"not running: {' and '.join(health.missing)}")


def _age(at: datetime | None, health: Health) -> Markup:
    """Draw an age that the browser keeps counting."""
    if at is None:
        return Markup("an unknown time")
    seconds = max(0.0, (health.at - at).total_seconds())
    return markup('<span data-ago="%s">%s</span>', int(at.timestamp() * 1000), formatting.duration(seconds))


def _trouble(board: Board, viewpoint: Viewpoint) -> Iterator[Markup]:
    if len(board.late) > EACH:
        yield _all_late(board, viewpoint)
    else:
        yield from (_late(late, board, viewpoint) for late in board.late)
    yield from (_target(target, viewpoint) for target in board.targets[:EACH])
    if more := max(0, len(board.targets) - EACH):
        text = f"requests to {plural(more, 'more target')} are blocked "
        yield _chip("bad", BAD, text, _to_queues("See", "targets", viewpoint))
    paused = [tab for tab in board.queues if tab.paused_at]
    braked = [tab for tab in board.queues if not tab.paused_at and tab.brake_per_minute is not None]
    yield from _switched(paused, "Resume", "paused", PAUSED, viewpoint)
    yield from _switched(braked, "Release", "braked", NOTICE, viewpoint)
    on_hold = [task for task in board.watched if task.held_at]
    yield from _tasks(on_hold, "on hold", PAUSED, viewpoint)
    yield from _tasks(
        [task for task in board.watched if not task.held_at], "past their deadline", LATE, viewpoint
    )


def _tasks(tasks: list[WatchedTask], state: str, sign: Markup, viewpoint: Viewpoint) -> Iterable[Markup]:
    """Yield alarms about lists that are on hold, or will be done too late."""
    if len(tasks) > EACH:
        first = link(f"“{tasks[0].name}”", addresses.task(tasks[0].id), f"watched-{state[:2]}")
        return [_chip("notice", sign, first, f" and {len(tasks) - 1:,} more lists are {state}")]
    return [_chip("notice", sign, *_watched(task, viewpoint)) for task in tasks]


def _watched(task: WatchedTask, viewpoint: Viewpoint) -> Iterator[Any]:
    yield link(f"“{task.name}”", addresses.task(task.id), f"watched-{task.id}")
    if task.held_at:
        yield from (" is on hold since ", viewpoint.moment(task.held_at), _because(task.hold_reason), " ")
        hold = f"{addresses.task(task.id)}hold/"
        yield viewpoint.action(Markup("Continue&hellip;"), hold, f"continue-{task.id}")
    elif task.deadline_at:
        yield from (" would be done at ", viewpoint.moment(task.done_at), ", after its deadline at ")
        yield viewpoint.moment(task.deadline_at)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _undelivered(channel: Undelivered) -> Markup:
    many = f"{plural(channel.messages, 'message')} not delivered"
    address = addresses.with_query(reverse("deliveries"), channel=channel.id)
    return _chip(
        "bad",
        BAD,
        link(many, address, f"undelivered-{channel.id}"),
        f" to {channel.channel}: {channel.error}",
    )


def _switched(
    tabs: list[QueueTab], verb: str, state: str, sign: Markup, viewpoint: Viewpoint
) -> Iterable[Markup]:
    """Yield alarms about queues that are paused or braked."""
    if len(tabs) <= EACH:
        return [_queue_switch(tab, viewpoint) for tab in tabs]
    button = _to_queues(f"{verb}…", verb.lower(), viewpoint)
    return [_chip("notice", sign, f"{len(tabs):,} queues {state} ", button)]


def _to_queues(label: str, key: str, viewpoint: Viewpoint) -> Markup:
    return viewpoint.action(_text(label), reverse("queues"), f"{key}-queues")


def _all_late(board: Board, viewpoint: Viewpoint) -> Markup:
    since = min(late.since for late in board.late)
    many = link(f"{plural(board.late_count, 'ID')} late", addresses.drill_down(ALL, kind="late"), "late-all")
    return _chip("notice", LATE, many, f" in {len(board.late):,} queues, since ", viewpoint.moment(since))


def _late(late: LateIds, board: Board, viewpoint: Viewpoint) -> Markup:
    next_ = "they wait until it resumes" if late.is_paused else "they take the next free places"
    if board.has_list_on_hold(late.queue) and not late.is_paused:
        next_ += ", except those of lists on hold"
    address = addresses.drill_down(late.queue, kind="late")
    many = link(f"{plural(late.ids, 'ID')} late", address, f"late-{late.queue}")
    return _chip("notice", LATE, many, f" in {late.queue} since ", viewpoint.moment(late.since), f"; {next_}")


def _target(target: BlockedTarget, viewpoint: Viewpoint) -> Markup:
    if target.opened_at:
        failures = plural(target.failures, "failure")
        why = _text(
            "circuit breaker open since ", viewpoint.moment(target.opened_at),
            f" after {failures}; one probe every 30 s",
        )  # fmt: skip
    else:
        reason = f" ({target.reason})" if target.reason else ""
        until = viewpoint.clock_seconds(target.blocked_until) if target.blocked_until else ""
        why = _text("blocked until ", until, reason)
    buttons = [_text(" ", _release(name, f"release-{name}-{target.id}", viewpoint)) for name in target.queues]
    return _chip("bad", BAD, f"{target.origin}: ", why, join(buttons))


def _release(name: str, key: str, viewpoint: Viewpoint) -> Markup:
    return viewpoint.submit(_text(f"Release {name}"), addresses.queue_operation(name, "release"), key)


def _queue_switch(tab: QueueTab, viewpoint: Viewpoint) -> Markup:
    if tab.paused_at:
        resume = addresses.queue_operation(tab.name, "resume")
        button = viewpoint.submit(Markup("Resume"), resume, f"resume-{tab.name}")
        return _chip(
            *("notice", PAUSED, f"{tab.name} paused since ", viewpoint.moment(tab.paused_at)),
            *(_because(tab.pause_reason), " ", button),
        )
    brake = addresses.queue_operation(tab.name, "brake")
    button = viewpoint.submit(Markup("Release"), brake, f"unbrake-{tab.name}", field="per_minute")
    words = f"brake on {tab.name}: at most {tab.brake_per_minute:,} a minute{_because(tab.brake_reason)} "
    return _chip("notice", NOTICE, words, button)
