"""The board's strip: whether all is well, in words with a sign; what isn't, and the button that helps."""

from collections.abc import Iterable

from django.urls import reverse

from dashboard import addresses, formatting
from dashboard.board.markup import Hand, link, written
from dashboard.formatting import plural
from scheduling.reports.cards import BlockedTarget, Board, LateIds, QueueTab
from scheduling.reports.health import Health

ALL = "*"
# So many jobs come and go all the time.
MANY_JOBS = 20
SLOW_SECONDS = 1
# More of a kind than this are told together: a pause of all must not push the bars off the page.
EACH = 3


def strip(board: Board, hand: Hand) -> str:
    """Two lines, so that trouble that comes shifts nothing: what the clusters do, and what is held up."""
    return (
        f'<div class="row" role="group" aria-label="Health">{"".join(_clusters(board.health, hand))}</div>'
        f'<div class="row trouble" role="group" aria-label="What is late or held">'
        f"{''.join(_trouble(board, hand)) or _chip('', '&check;', 'Nothing is late, held or paused')}</div>"
    )


def _chip(kind: str, sign: str, said: str) -> str:
    return f'<span class="chip {kind}"><span class="sign" aria-hidden="true">{sign}</span>{said}</span>'


def _clusters(health: Health, hand: Hand) -> Iterable[str]:
    for volume in health.low_disks:
        said = f"disk with {volume.name} nearly full: {volume.free_bytes / 1e6:,.0f} MB free"
        yield _chip("bad", "&#10005;", said)
    if health.missing:
        silent = ", ".join(
            f"cluster {written(one.name)}: no sign since {hand.moment(one.silent_since)}"
            for one in health.silent
        )
        said = silent or f"no sign of {' and '.join(map(written, health.missing))}"
        yield _chip("bad", "&#10005;", f"{said}: lists are taken in, nothing is sent")
    else:
        alive, workers = plural(len(health.alive), "cluster"), plural(health.workers, "worker")
        beat = f"beat {_ago(health.seen_at, health)} ago"
        yield _chip("good", "&check;", f"{alive}, {workers}, {beat}")
        for one in health.silent:
            said = f"{plural(one.silent_count, 'cluster')} {written(one.name)}: no sign since"
            yield _chip("bad", "&#10005;", f"{said} {hand.moment(one.silent_since)}; another does its work")
    jobs = f"{plural(health.jobs_waiting, 'job')} waiting"
    yield _chip("notice", "!", jobs) if health.jobs_waiting > MANY_JOBS else _chip("good", "&check;", jobs)
    if health.quarter_is_late:
        last = "never"
        if health.quarter_at:
            last = f"{hand.moment(health.quarter_at)}, {_ago(health.quarter_ran_at or health.quarter_at, health)} ago"
        yield _chip("bad", "&#10005;", f"last quarter-hour run: {last}; the next one totals what was missed")
    elif health.quarter_ran_at:
        yield _chip(
            "good", "&check;",
            f"quarter {hand.clock(health.quarter_at)} processed {_ago(health.quarter_ran_at, health)} ago",
        )  # fmt: skip
    if health.minute_lag is not None:
        is_slow = health.minute_lag > SLOW_SECONDS
        said = f"{hand.clock(health.minute_at)} started {formatting.lag(health.minute_lag)}"
        yield _chip("notice", "!", said) if is_slow else _chip("good", "&check;", said)


def _ago(at, health: Health) -> str:
    """An age that ticks in the browser."""
    age = max(0.0, (health.at - at).total_seconds())
    return f'<span data-ago="{int(at.timestamp() * 1000)}">{formatting.duration(age)}</span>'


def _trouble(board: Board, hand: Hand) -> Iterable[str]:
    if len(board.late) > EACH:
        yield _all_late(board, hand)
    else:
        yield from (_late(late, hand) for late in board.late)
    yield from (_target(target, hand) for target in board.targets[:EACH])
    if more := max(0, len(board.targets) - EACH):
        yield _chip(
            "bad", "&#10005;", f"{plural(more, 'more target')} held {_to_queues('See', 'targets', hand)}"
        )
    paused = [tab for tab in board.queues if tab.paused_at]
    braked = [tab for tab in board.queues if not tab.paused_at and tab.brake_per_minute is not None]
    for tabs, key, word, sign in ((paused, "resume", "paused", "&Vert;"), (braked, "release", "braked", "!")):
        if len(tabs) > EACH:
            button = _to_queues(f"{key.capitalize()}&hellip;", key, hand)
            yield _chip("notice", sign, f"{len(tabs):,} queues {word} {button}")
        else:
            yield from (_held(tab, hand) for tab in tabs)


def _to_queues(label: str, key: str, hand: Hand) -> str:
    return hand.act(label, reverse("queues"), f"{key}-queues")


def _all_late(board: Board, hand: Hand) -> str:
    since = min(late.since for late in board.late)
    many = link(plural(board.late_count, "ID") + " late", addresses.drill_down(ALL) + "late", "late-all")
    return _chip("notice", "&#9684;", f"{many} in {len(board.late):,} queues, since {hand.moment(since)}")


def _late(late: LateIds, hand: Hand) -> str:
    name = written(late.queue)
    next_ = "they wait until it resumes" if late.is_paused else "they take the next free places"
    many = link(plural(late.ids, "ID") + " late", addresses.drill_down(late.queue) + "late", f"late-{name}")
    return _chip("notice", "&#9684;", f"{many} in {name} since {hand.moment(late.since)}; {next_}")


def _target(target: BlockedTarget, hand: Hand) -> str:
    if target.opened_at:
        failures = plural(target.failures, "failure")
        since = hand.moment(target.opened_at)
        said = f"breaker open since {since} after {failures}, one probe each half minute"
    else:
        because = f" ({written(target.reason)})" if target.reason else ""
        said = f"held until {hand.clock_seconds(target.blocked_until)}{because}"
    acts = "".join(
        f" {hand.post(f'Release {name}', addresses.act(name, 'release'), f'release-{name}-{target.id}')}"
        for name in map(written, target.queues)
    )
    return _chip("bad", "&#10005;", f"{written(target.origin)}: {said}{acts}")


def _held(tab: QueueTab, hand: Hand) -> str:
    name = written(tab.name)
    if tab.paused_at:
        button = hand.post("Resume", addresses.act(tab.name, "resume"), f"resume-{name}")
        return _chip("notice", "&Vert;", f"{name} paused since {hand.moment(tab.paused_at)} {button}")
    button = hand.post("Release", addresses.act(tab.name, "brake"), f"unbrake-{name}", field="per_minute")
    return _chip("notice", "!", f"brake on {name}: at most {tab.brake_per_minute:,} a minute {button}")
