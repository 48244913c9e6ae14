"""Alerts: what is wrong now, what is watched, the channels, and what was delivered to them."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import BadRequest
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dashboard.access import OperatorRequest, admin_required, operator_required, viewer_required
from dashboard.inputs import paging
from dashboard.inputs.alerts import ChannelForm, DeliveryFilter, RulesForm
from dashboard.inputs.filters import SIZES, page_size
from dashboard.inputs.parameters import refuse_unknown
from dashboard.tables.deliveries import DeliveryTable
from scheduling import store
from scheduling.alerts import channels, evaluation
from scheduling.core.errors import BadFields, ChannelTaken, DeliveryDue
from scheduling.core.retry import Verdict
from scheduling.events import delivery
from scheduling.models import WATCHES, Alert, AlertKind, Channel, ChannelKind, Delivery

EARLIER = 20
# Of the open alerts, the newest ones.
SHOWN = 200
EDITED = ["GET", "HEAD", "POST"]


@require_safe
@viewer_required
def alerts(request: OperatorRequest) -> HttpResponseBase:
    """Show the open alerts, the channels, what is watched, and the latest alerts that are over."""
    refuse_unknown(request, ())
    return render(request, "dashboard/alerts.html", _page())


def _page(form: RulesForm | None = None) -> dict[str, Any]:
    rules = evaluation.rules_by_kind()
    form = form or RulesForm(rules)
    failing = channels.failing(at=store.now())
    watched = []
    for kind, watch in WATCHES.items():
        has_threshold = f"{kind}_threshold" in form.fields
        threshold = form[f"{kind}_threshold"] if has_threshold else None
        watched.append({"kind": kind, "watch": watch, "on": form[f"{kind}_on"], "threshold": threshold})
    open_alerts = evaluation.open_alerts()
    return {
        "open": open_alerts[:SHOWN],
        "open_count": len(open_alerts),
        "earlier": Alert.objects.filter(ended_at__isnull=False).order_by("-ended_at", "-pk")[:EARLIER],
        "channels": [(channel, failing.get(channel.pk)) for channel in Channel.objects.order_by("name")],
        "watched": watched,
        "kinds": ChannelKind,
    }


@require_POST
@admin_required
def set_rules(request: OperatorRequest) -> HttpResponseBase:
    """Turn kinds of alerts on or off, and set their thresholds."""
    form = RulesForm(evaluation.rules_by_kind(), request.POST)
    if not form.is_valid():
        return render(request, "dashboard/alerts.html", _page(form), status=422)
    for kind in AlertKind:
        evaluation.set_rule(
            kind,
            is_on=form.cleaned_data[f"{kind}_on"],
            threshold=form.cleaned_data.get(f"{kind}_threshold"),
            by=request.actor,
            at=store.now(),
        )
    messages.success(request, "Saved. Takes effect in the next minute.")
    return redirect("alerts")


@require_POST
@admin_required
def test(request: OperatorRequest) -> HttpResponseBase:
    """Send a test alert of one kind to all channels that get alerts."""
    word = request.POST.get("kind", "")
    if word not in AlertKind.values:
        raise BadRequest(
            f"kind: {word[:40]!r} is not a kind of alert. Allowed: {', '.join(AlertKind.values)}."
        )
    count = evaluation.test(AlertKind(word), by=request.actor, at=store.now())
    if not count:
        messages.error(request, "No channel receives alerts, so nothing was sent. Add a channel first.")
        return redirect("alerts")
    messages.success(request, "A test alert is being sent. This list shows when it has been delivered.")
    return redirect("deliveries")


@sensitive_post_parameters("secret", "address")
@require_http_methods(EDITED)
@admin_required
def new_channel(request: OperatorRequest, kind: str) -> HttpResponseBase:
    """Show the form of a new channel. A POST creates it."""
    refuse_unknown(request, ())
    if kind not in ChannelKind.values:
        raise Http404(f"There is no kind of channel named {kind}.")
    form = ChannelForm(ChannelKind(kind), None, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            channel, secret = channels.create(
                kind=kind,
                fields=form.cleaned_data,
                base_url=_base_url(request),
                by=request.actor,
                at=store.now(),
            )
        except BadFields as error:
            form.take(error.reasons)
        except ChannelTaken as error:
            form.take({"name": str(error)})
        else:
            messages.success(
                request, f"The channel “{channel.name}” has been added. Send a test to see that it works."
            )
            if secret and not form.cleaned_data["secret"]:
                # Shown once: it is in no address, session or log.
                saved = ChannelForm(ChannelKind(kind), channel, None)
                return render(
                    request, "dashboard/channel.html", _channel_page(saved, channel) | {"secret": secret}
                )
            return redirect("channel", channel_id=channel.pk)
    context = {"form": form, "kind": ChannelKind(kind)}
    return render(request, "dashboard/channel.html", context, status=422 if form.errors else 200)


@sensitive_post_parameters("secret", "address")
@require_http_methods(EDITED)
@admin_required
def channel(request: OperatorRequest, channel_id: int) -> HttpResponseBase:
    """Show a channel. A POST changes it."""
    refuse_unknown(request, ())
    channel = get_object_or_404(Channel, pk=channel_id)
    kind = ChannelKind(channel.kind)
    form = ChannelForm(kind, channel, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            channels.change(
                channel, form.cleaned_data, by=request.actor, at=store.now(), base_url=_base_url(request)
            )
        except BadFields as error:
            form.take(error.reasons)
        except ChannelTaken as error:
            form.take({"name": str(error)})
        else:
            messages.success(request, "Saved.")
            return redirect("channel", channel_id=channel.pk)
    context = _channel_page(form, channel)
    return render(request, "dashboard/channel.html", context, status=422 if form.errors else 200)


def _channel_page(form: ChannelForm, channel: Channel) -> dict[str, Any]:
    return {
        "form": form,
        "kind": ChannelKind(channel.kind),
        "channel": channel,
        "failing": channels.failing(at=store.now()).get(channel.pk),
    }


@require_POST
@admin_required
def test_channel(request: OperatorRequest, channel_id: int) -> HttpResponseBase:
    """Send a channel a message at once, and show the outcome."""
    channel = get_object_or_404(Channel, pk=channel_id)
    outcome = channels.test(channel, by=request.actor, at=store.now())
    if outcome.verdict is Verdict.SUCCEEDED:
        answer = (
            f" The receiver responded with {outcome.status}."
            if outcome.status
            else " The mail server accepted it."
        )
        messages.success(request, f"The test was delivered to “{channel.name}”.{answer}")
    else:
        messages.error(request, f"The test could not be delivered to “{channel.name}”: {outcome.error}.")
    return redirect("channel", channel_id=channel.pk)


@require_POST
@admin_required
def delete_channel(request: OperatorRequest, channel_id: int) -> HttpResponseBase:
    """Delete a channel with its deliveries."""
    channel = get_object_or_404(Channel, pk=channel_id)
    channels.delete(channel, by=request.actor, at=store.now())
    messages.success(request, f"The channel “{channel.name}” has been deleted.")
    return redirect("alerts")


@require_safe
@viewer_required
def deliveries(request: OperatorRequest) -> HttpResponseBase:
    """Show what was delivered to which channel, newest first."""
    chosen = DeliveryFilter.of(request)
    size = page_size(request)
    page = paging.by_id(request, chosen.deliveries(), size)
    table = DeliveryTable(page.rows)
    context = {"page": page, "table": table, "filter": chosen, "size": size, "sizes": SIZES}
    return render(request, "dashboard/deliveries.html", context)


@require_POST
@operator_required
def send_again(request: OperatorRequest, delivery_id: int) -> HttpResponseBase:
    """Deliver an event to a channel again."""
    row = get_object_or_404(Delivery.objects.select_related("event", "channel"), pk=delivery_id)
    try:
        delivery.send_again(row, by=request.actor, at=store.now())
    except DeliveryDue as error:
        messages.info(request, str(error))
    else:
        messages.success(
            request, f"The event will be sent to “{row.channel.name}” again, with the same webhook-id."
        )
    return redirect("deliveries")


def _base_url(request: OperatorRequest) -> str:
    return request.build_absolute_uri("/")
