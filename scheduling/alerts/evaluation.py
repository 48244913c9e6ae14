"""Check the conditions of alerts each minute, and record the messages that have to be sent.

Of several clusters, one checks in each minute, by compare-and-set on one row. Its findings are compared with the open
alerts under the lock of that row, and stored in one transaction together with the events: each alert is recorded
once when it begins, at most once an hour while it lasts, and once when it is over, even if a process dies. Alerts of
one kind that are due at the same moment are one message.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import DatabaseError
from django.urls import reverse

from operators.actor import Actor
from scheduling import activity, store
from scheduling.alerts import conditions
from scheduling.alerts.conditions import Finding
from scheduling.core import limits
from scheduling.core.batches import batches
from scheduling.core.clock import iso
from scheduling.core.errors import BadFields
from scheduling.core.time_limit import TimeLimit
from scheduling.events import delivery, recording
from scheduling.jobqueue import cluster
from scheduling.models import WATCHES, Alert, AlertKind, AlertRule, EventType, Installation
from scheduling.reports import health

log = structlog.get_logger(__name__)

EVERY = timedelta(seconds=55)
REPEATED_AFTER = timedelta(hours=1)
# A condition that returns within this time counts as uninterrupted, so that one that comes and goes is reported once.
OVER_AFTER = timedelta(minutes=2)
TEXT_CHARACTERS = 300
# A message names this many alerts, and counts the others.
NAMED = 20
# A process reads no more often than this whether a check is due.
POLL_SECONDS = 45.0
_next_poll = TimeLimit(-1)


def wake(*, at: datetime) -> None:
    """Check the conditions, unless another process did within the last minute. Cheap, and called every few seconds."""
    global _next_poll
    if not _next_poll.is_over:
        return
    _next_poll = TimeLimit(POLL_SECONDS)
    if evaluate(at=at) and not health.cluster_health(cluster.DEFAULT, at).alive_count:
        # Nobody else delivers what is due.
        delivery.wake(at=at, on=cluster.MINUTES, grace=timedelta())


def evaluate(*, at: datetime) -> bool:
    """Check the conditions if that is due, and record what has changed. Returns whether this call did so."""
    if not _claim(at):
        return False
    rules = rules_by_kind()
    findings = {kind: _find(kind, rules[kind], at) for kind in AlertKind}
    with store.write():
        # If another process has checked meanwhile, its findings are newer than these.
        if not list(Installation.objects.select_for_update().filter(pk=1, alerts_looked_at=at)):
            return False
        open_by_kind: dict[str, list[Alert]] = defaultdict(list)
        for alert in Alert.objects.filter(ended_at=None).order_by("pk"):
            open_by_kind[alert.kind].append(alert)
        for kind, findings_of_kind in findings.items():
            if findings_of_kind is not None:
                by_subject = {finding.subject: finding for finding in findings_of_kind}
                _compare(open_by_kind[kind], by_subject, rules[kind], at)
    return True


def rules_by_kind() -> dict[AlertKind, AlertRule]:
    """Return the rule of each kind, with the threshold that applies; those without a row aren't saved."""
    rules: dict[AlertKind, AlertRule] = {kind: AlertRule(kind=kind) for kind in AlertKind}
    for rule in AlertRule.objects.all():
        if rule.kind in rules:
            rules[AlertKind(rule.kind)] = rule
    for kind, rule in rules.items():
        rule.threshold = WATCHES[kind].threshold if rule.threshold is None else rule.threshold
    return rules


def set_rule(kind: AlertKind, *, is_on: bool, threshold: int | None, by: Actor, at: datetime) -> None:
    """Turn a kind of alert on or off, and set its threshold. Raises BadFields."""
    watch = WATCHES[kind]
    if watch.unit and not (isinstance(threshold, int) and 1 <= threshold <= watch.most):
        raise BadFields(threshold=f"It must be a whole number from 1 to {watch.most:,}.")
    values = {"is_on": is_on, "threshold": threshold if watch.unit else None}
    with store.write():
        rule, _ = AlertRule.objects.select_for_update().get_or_create(kind=kind)
        before = {name: getattr(rule, name) for name in values}
        if before["threshold"] is None:
            before["threshold"] = watch.threshold
        if before != values:
            AlertRule.objects.filter(pk=rule.pk).update(**values)
            activity.record(by, "changed", rule, at=at, before=before, after=values)


def open_alerts() -> list[Alert]:
    """Return the alerts that have been reported and aren't over, newest first."""
    return list(Alert.objects.filter(ended_at=None, fired_at__isnull=False).order_by("-started_at", "-pk"))


def test(kind: AlertKind, *, by: Actor, at: datetime) -> int:
    """Send a test alert of a kind to all channels that receive alerts. Returns the number of channels."""
    channels = recording.channels_of(EventType.ALERT_FIRING)
    with store.write():
        alert = Alert(kind=kind, subject="test", text=f"{kind.label}: nothing is wrong.", started_at=at)
        _report([alert], EventType.ALERT_FIRING, at, test=True, path=f"{reverse('alerts')}#{kind}")
        details = {"kind": str(kind), "channels": len(channels)}
        activity.record(by, "tested_alert", at=at, after=details)
    return len(channels)


def _claim(at: datetime) -> bool:
    """Claim this minute's check for this process."""
    installation = Installation.current()
    last = installation.alerts_looked_at
    if last is not None and at - EVERY < last <= at:
        return False
    unclaimed = Installation.objects.filter(pk=installation.pk, alerts_looked_at=last)
    return bool(unclaimed.update(alerts_looked_at=at))


def _find(kind: AlertKind, rule: AlertRule, at: datetime) -> list[Finding] | None:
    """Return the findings of a kind; None if its condition fails, so that its alerts stay as they are."""
    if not rule.is_on:
        return []
    try:
        return conditions.find(kind, rule.threshold or 0, at=at)
    except DatabaseError:
        raise
    except Exception:
        # A malformed row must not hide what the other conditions find.
        log.exception("condition_failed", kind=kind)
        return None


def _compare(
    open_alerts: Iterable[Alert], findings: dict[str, Finding], rule: AlertRule, at: datetime
) -> None:
    """Compare what a condition finds with the open alerts of its kind, and report what is due in one message each."""
    kind = AlertKind(rule.kind)
    holds_for = WATCHES[kind].holds_for
    needed = timedelta(minutes=rule.threshold or 0) if holds_for is None else holds_for
    due: list[Alert] = []
    over: list[Alert] = []
    unchanged: list[int] = []
    for alert in open_alerts:
        finding = findings.pop(alert.subject, None)
        if finding is not None:
            before = alert.text, alert.path, alert.fired_at
            if _continue(alert, finding, needed, at):
                due.append(alert)
            elif before == (alert.text, alert.path, alert.fired_at):
                unchanged.append(alert.pk)
                continue
            alert.save()
        elif alert.fired_at is None:
            alert.delete()
        elif not rule.is_on or at - alert.seen_at >= OVER_AFTER:
            alert.ended_at = at
            over.append(alert)
    _update(unchanged, seen_at=at)
    _update([alert.pk for alert in over], ended_at=at)
    created = [
        Alert(kind=kind, subject=finding.subject, started_at=min(finding.since or at, at))
        for finding in findings.values()
    ]
    due += [alert for alert in created if _continue(alert, findings[alert.subject], needed, at)]
    Alert.objects.bulk_create(created, batch_size=limits.IDS_PER_QUERY)
    _report(due, EventType.ALERT_FIRING, at)
    _report(over, EventType.ALERT_RESOLVED, at)


def _update(ids: Sequence[int], **values: datetime) -> None:
    for batch in batches(ids):
        Alert.objects.filter(pk__in=batch).update(**values)


def _continue(alert: Alert, finding: Finding, needed: timedelta, at: datetime) -> bool:
    """Update an alert whose condition holds, without saving it. Returns whether it is to be reported."""
    alert.text, alert.path, alert.seen_at = finding.text[:TEXT_CHARACTERS], finding.path, at
    if alert.fired_at is None and at - alert.started_at >= needed:
        alert.fired_at = at
    is_due = alert.told_at is None or at - alert.told_at >= REPEATED_AFTER
    if alert.fired_at is None or not is_due:
        return False
    alert.told_at = at
    alert.told_count += 1
    return True


def _report(
    alerts: Sequence[Alert], event_type: EventType, at: datetime, *, test: bool = False, path: str = ""
) -> None:
    """Record one message about alerts of one kind. It names the first of them, and says how many there are."""
    if not alerts:
        return
    first, kind = alerts[0], AlertKind(alerts[0].kind)
    is_one = len(alerts) == 1
    data: dict[str, Any] = {
        "kind": kind.value,
        "subject": first.subject if is_one else "",
        "started_at": iso(min(alert.started_at for alert in alerts), "seconds"),
        "ended_at": iso(first.ended_at, "seconds"),
        "repeat": min(_repeat(alert) for alert in alerts),
        "count": len(alerts),
        "alerts": [
            {
                "subject": alert.subject,
                "summary": alert.text,
                "started_at": iso(alert.started_at, "seconds"),
                "repeat": _repeat(alert),
                "path": alert.path,
            }
            for alert in alerts[:NAMED]
        ],
        "runbook": WATCHES[kind].runbook,
        "docs": f"docs/alerts.md#{kind.value}",
        "test": test,
    }
    title = first.text if is_one else f"{kind.label}: {len(alerts):,} alerts"
    if event_type == EventType.ALERT_RESOLVED:
        title = f"Resolved: {title}"
    recording.record(
        event_type, title, data, at=at, path=path or (first.path if is_one else reverse("alerts"))
    )


def _repeat(alert: Alert) -> int:
    return max(0, alert.told_count - 1)
