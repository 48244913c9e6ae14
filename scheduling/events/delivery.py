"""Deliver events to channels: at least once, with an identifier that stays the same, and for a day while that fails.

A worker claims a delivery by compare-and-set before it makes it, so that of two workers one does; one that dies in
the middle has used up an attempt, and its claim runs out.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from smtplib import SMTPException, SMTPResponseException
from typing import Any

import structlog
from django.conf import settings
from django.db.models import F

from operators.actor import Actor
from operators.encryption import Undecryptable
from scheduling import activity, store
from scheduling.core import retry
from scheduling.core.errors import DeliveryDue
from scheduling.core.time_limit import TimeLimit
from scheduling.events import messages, recording
from scheduling.events.sealing import unseal
from scheduling.handlers.base import Outcome, truncate
from scheduling.handlers.webhook import Webhook
from scheduling.jobqueue import cluster
from scheduling.models import Channel, ChannelKind, Delivery, DeliveryQuerySet, Event

log = structlog.get_logger(__name__)

JOB_SECONDS = 20.0
# Longer than a batch can take: a worker that has stored no outcome by then is dead.
LEASE = timedelta(seconds=90)
# A delivery that has been due for this long has no job.
GRACE = timedelta(seconds=10)
# Minutes before the second attempt, the third, ...; the last one repeats.
DELAYS = (1, 2, 4, 8, 16, 32, 60)
LOOK_AT = 100
# Deliveries that are made at the same time: of all channels, and of one.
AT_ONCE, AT_ONCE_OF_A_CHANNEL = 20, 4
ERROR_CHARACTERS = 300


def due(at: datetime) -> DeliveryQuerySet:
    return Delivery.objects.filter(due_at__lte=at, channel__is_on=True)


def deliver(now: Callable[[], datetime], *, seconds: float = JOB_SECONDS) -> int:
    """Make the deliveries that are due, for a few seconds; return how many succeeded.

    A channel that fails isn't tried again by the same call, so that it can't keep the others waiting.
    """
    limit, failed, delivered = TimeLimit(seconds), set[int](), 0
    while claimed := _claim(now(), failed):
        outcomes = asyncio.run(_send_all([(delivery.event, delivery.channel) for delivery in claimed]))
        at = now()
        for delivery, outcome in zip(claimed, outcomes, strict=True):
            if _record(delivery, outcome, at):
                delivered += 1
            else:
                failed.add(delivery.channel_id)
        if limit.is_over:
            cluster.enqueue(recording.JOB)
            break
    return delivered


def wake(*, at: datetime, on: str = cluster.DEFAULT, grace: timedelta = GRACE) -> None:
    """Queue a job on a cluster if a delivery is due and has none."""
    if due(at - grace).exists() and not cluster.is_queued(recording.JOB, at=at, cluster=on):
        cluster.enqueue(recording.JOB, cluster=on)


def send_again(delivery: Delivery, *, by: Actor, at: datetime) -> None:
    """Deliver an event again, with the same identifier, although it arrived or was abandoned.

    Raises DeliveryDue while it is due anyway.
    """
    with store.write():
        settled = Delivery.objects.filter(pk=delivery.pk, due_at=None)
        values = {"delivered_at": None, "attempts": 0, "due_at": at, "status": None, "error": ""}
        if not settled.update(retry_until=at + Delivery.RETRIED_FOR, **values):
            raise DeliveryDue
        details = {"type": delivery.event.type, "webhook_id": delivery.event.key}
        activity.record(by, "sent_event_again", delivery.channel, at=at, after=details)
        cluster.enqueue(recording.JOB)


def send_now(event: Event, channel: Channel) -> Outcome:
    """Send an event that isn't stored to a channel, once: a test."""
    return asyncio.run(_send(event, channel))


def _claim(at: datetime, failed: Collection[int]) -> list[Delivery]:
    """Claim some deliveries that are due; abandon those whose time is over."""
    candidates = due(at).exclude(channel_id__in=failed).select_related("event", "channel")
    claimed: list[Delivery] = []
    by_channel: Counter[int] = Counter()
    for delivery in list(candidates.order_by("due_at", "pk")[:LOOK_AT]):
        if len(claimed) == AT_ONCE:
            break
        if delivery.retry_until <= at:
            _abandon(delivery, delivery.error or "it was not delivered in time", delivery.status, at)
        elif by_channel[delivery.channel_id] < AT_ONCE_OF_A_CHANNEL:
            unclaimed = Delivery.objects.filter(
                pk=delivery.pk, attempts=delivery.attempts, due_at=delivery.due_at
            )
            if unclaimed.update(attempts=F("attempts") + 1, due_at=at + LEASE, attempted_at=at):
                delivery.attempts += 1
                by_channel[delivery.channel_id] += 1
                claimed.append(delivery)
    return claimed


def _record(delivery: Delivery, outcome: Outcome, at: datetime) -> bool:
    """Store the outcome of an attempt; return whether it succeeded."""
    own = Delivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts, delivered_at=None)
    if outcome.verdict == retry.Verdict.SUCCEEDED:
        own.update(delivered_at=at, due_at=None, status=outcome.status, error="")
        return True
    error = truncate(outcome.error, ERROR_CHARACTERS)
    seconds = retry.retry_after_seconds(outcome.status, outcome.retry_after, at=at) or 0
    due_at = retry.due_at(
        at,
        attempts=delivery.attempts,
        random=0.5,
        not_before=at + timedelta(seconds=seconds),
        delays=DELAYS,
    )
    if due_at > delivery.retry_until:
        _abandon(delivery, error, outcome.status, at)
    else:
        own.update(due_at=due_at, status=outcome.status, error=error)
        log.warning(
            "delivery_failed", channel=delivery.channel.name, webhook_id=delivery.event.key, error=error
        )
    return False


def _abandon(delivery: Delivery, error: str, status: int | None, at: datetime) -> None:
    with store.write():
        own = Delivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts, delivered_at=None)
        if own.exclude(due_at=None).update(due_at=None, status=status, error=error):
            details: dict[str, Any] = {
                "type": delivery.event.type,
                "webhook_id": delivery.event.key,
                "error": error,
            }
            details["attempts"] = delivery.attempts
            activity.record(Actor.system(), "abandoned_event", delivery.channel, at=at, after=details)
            log.error("delivery_abandoned", channel=delivery.channel.name, **details)


async def _send_all(pairs: list[tuple[Event, Channel]]) -> list[Outcome]:
    return list(await asyncio.gather(*(_send(event, channel) for event, channel in pairs)))


async def _send(event: Event, channel: Channel) -> Outcome:
    """Send an event to a channel. Whatever goes wrong is an outcome."""
    if channel.kind == ChannelKind.EMAIL:
        # Django's mail blocks. It has a time limit of its own.
        return await asyncio.to_thread(_send_email, event, channel)
    try:
        secret = unseal(channel)
    except Undecryptable:
        return _failure("its secret was stored under another SECRET_KEY: enter it again")
    is_slack = channel.kind == ChannelKind.SLACK
    webhook = Webhook(
        url=secret if is_slack else channel.address,
        secret="" if is_slack else secret,
        allowed=settings.WEBHOOK_ALLOWED_NETWORKS,
        ca_file=settings.WEBHOOK_CA_FILE,
    )
    try:
        body = messages.slack_body(event, channel) if is_slack else messages.webhook_body(event, channel)
        outcome = await webhook.post(event.key, body)
    finally:
        await webhook.close()
    if is_slack and outcome.status is not None:
        # Where a redirect leads contains the address, which is secret; a body may repeat it.
        words = "" if outcome.verdict is retry.Verdict.SUCCEEDED else f"answered {outcome.status}"
        return outcome._replace(error=words, answer="")
    return outcome


def _send_email(event: Event, channel: Channel) -> Outcome:
    if not settings.EMAIL_URL:
        return _failure("the setting EMAIL_URL is empty, so that no e-mail can be sent")
    try:
        messages.email_of(event, channel).send()
    except SMTPResponseException as error:
        reply = error.smtp_error
        text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
        return _failure(f"the mail server responded with {error.smtp_code}: {text}")
    except (OSError, SMTPException, ValueError) as error:
        return _failure(f"{error}" or type(error).__name__)
    return Outcome(retry.Verdict.SUCCEEDED)


def _failure(words: str) -> Outcome:
    return Outcome(retry.Verdict.RETRY, error=truncate(words, ERROR_CHARACTERS))
