"""Webhooks: subscriptions to events, and what was delivered to each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.http import Http404, HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_MANAGE, CAN_READ, ApiRequest
from api.bodies import read_fields, read_optional
from api.endpoints import WITH_BODY, responses
from api.fields import Id
from api.idempotency import key_of_fields, replayed
from api.openapi import describe, fields_body
from api.responses import check_if_match, json_response, location_of, revalidated
from api.serializers import outcome_json
from scheduling import models, store
from scheduling.alerts import channels
from scheduling.core.clock import iso
from scheduling.core.errors import BadFields
from scheduling.events import delivery
from scheduling.intake import idempotency
from scheduling.models import ChannelKind

router = Router(tags=["Webhooks"])

# The API's names of the fields of a channel.
_NAMES = {"address": "url", "types": "events", "is_on": "enabled"}
_COLUMNS = {name: column for column, name in _NAMES.items()}


def _webhook_json(webhook: models.Channel) -> dict[str, Any]:
    return {
        "id": webhook.pk,
        "name": webhook.name,
        "url": webhook.address,
        "events": webhook.types,
        "enabled": webhook.is_on,
        "date_created": iso(webhook.created_at),
    }


def _delivery_json(row: models.Delivery) -> dict[str, Any]:
    return {
        "id": row.pk,
        "event_id": row.event.key,
        "type": row.event.type,
        "summary": row.event.title,
        "at": iso(row.event.at),
        "state": row.state,
        "attempts": row.attempts,
        "http_status": row.status,
        "error": row.error,
        "delivered_at": iso(row.delivered_at),
        "next_at": iso(row.due_at),
    }


def find(webhook_id: int) -> models.Channel:
    webhook = models.Channel.objects.filter(pk=webhook_id, kind=ChannelKind.WEBHOOK).first()
    if webhook is None:
        raise Http404(f"There is no webhook {webhook_id}.")
    return webhook


def _columns(fields: schemas.NewWebhook | schemas.WebhookUpdate) -> dict[str, Any]:
    """Return the fields that the body sets, by the names of a channel's columns."""
    changes = fields.model_dump(mode="json", exclude_unset=True, exclude={"id", "date_created"})
    return {_COLUMNS.get(name, name): value for name, value in changes.items()}


@contextmanager
def _faults_by_api_names() -> Iterator[None]:
    """Name what is wrong with a channel's fields as the API names them."""
    try:
        yield
    except BadFields as error:
        reasons = {_NAMES.get(name, name): reason for name, reason in error.reasons.items()}
        raise BadFields(**reasons) from None


@router.get(
    "/webhooks/",
    auth=CAN_READ,
    response=responses(list[schemas.Webhook]),
    operation_id="list_webhooks",
    summary="All webhooks, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_webhooks(request: ApiRequest, page: Query[schemas.QueuePage]) -> HttpResponse:
    """Secrets can be written but not read."""
    webhooks = models.Channel.objects.filter(kind=ChannelKind.WEBHOOK)
    shown, more = paging.newest_first(request, webhooks, page)
    return revalidated(request, json_response([_webhook_json(channel) for channel in shown], headers=more))


@router.post(
    "/webhooks/",
    auth=CAN_MANAGE,
    response=responses(schemas.CreatedWebhook, 409, *WITH_BODY, status=201),
    operation_id="create_webhook",
    summary="Subscribe to events",
    openapi_extra=describe(
        body=fields_body(schemas.NewWebhook), headers=["Idempotency-Key"], sent={201: ["Location", "ETag"]}
    ),
)
def create_webhook(request: ApiRequest, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """The response has the secret with which the receiver verifies messages. It is not shown again.

    Without a `secret`, one is made. A repeated request with the same Idempotency-Key gets the response without it.
    """
    fields = _columns(read_fields(request, schemas.NewWebhook, options.unknown_fields))
    key = key_of_fields(request, fields)
    secrets: list[str] = []

    def create() -> dict[str, Any]:
        with _faults_by_api_names():
            webhook, secret = channels.create(
                kind=ChannelKind.WEBHOOK,
                fields=fields,
                base_url=request.build_absolute_uri("/"),
                by=request.caller.actor,
                at=store.now(),
            )
        secrets.append(secret)
        # Stored for repeated requests, so without the secret.
        return _webhook_json(webhook)

    webhook, is_repeated = idempotency.once(key, create, now=store.now)
    headers = replayed({"Location": location_of(request, webhook["id"])}, is_repeated)
    body = {**webhook, "secret": secrets[0] if secrets else None}
    return json_response(body, status=201, etag="1", headers=headers)


@router.get(
    "/webhooks/{id:id}/",
    auth=CAN_READ,
    response=responses(schemas.Webhook, 404),
    operation_id="get_webhook",
    summary="One webhook",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_webhook(request: ApiRequest, id: Id) -> HttpResponse:
    return revalidated(request, _shown(find(id)))


def _shown(webhook: models.Channel) -> HttpResponse:
    return json_response(_webhook_json(webhook), etag=str(webhook.version))


@router.patch(
    "/webhooks/{id:id}/",
    auth=CAN_MANAGE,
    response=responses(schemas.Webhook, 404, 409, 412, *WITH_BODY),
    operation_id="patch_webhook",
    summary="Change a webhook",
    openapi_extra=describe(
        body=fields_body(schemas.WebhookUpdate, patch=True), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def patch_webhook(request: ApiRequest, id: Id, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Absent fields stay as they are, and so does the secret if it is null."""
    webhook = find(id)
    changes = _columns(read_fields(request, schemas.WebhookUpdate, options.unknown_fields))
    if_version = webhook.version if check_if_match(request, str(webhook.version)) else None
    with _faults_by_api_names():
        webhook = channels.change(
            webhook, changes, by=request.caller.actor, at=store.now(), if_version=if_version
        )
    return _shown(webhook)


@router.delete(
    "/webhooks/{id:id}/",
    auth=CAN_MANAGE,
    response=responses(None, 404, 412, status=204),
    operation_id="delete_webhook",
    summary="Unsubscribe",
    openapi_extra=describe(headers=["If-Match"]),
)
def delete_webhook(request: ApiRequest, id: Id) -> HttpResponse:
    """The record of its deliveries is deleted too, and deliveries that are due are not sent."""
    webhook = find(id)
    check_if_match(request, str(webhook.version))
    channels.delete(webhook, by=request.caller.actor, at=store.now())
    return HttpResponse(status=204)


@router.post(
    "/webhooks/{id:id}/test/",
    auth=CAN_MANAGE,
    response=responses(schemas.TestedCallback, 404, *WITH_BODY),
    operation_id="test_webhook",
    summary="Send a test",
)
def test_webhook(request: ApiRequest, id: Id, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """An `alert.firing` whose data have `test: true` is sent at once. The response is shown, and nothing is retried."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    outcome = channels.test(find(id), by=request.caller.actor, at=store.now())
    return json_response(outcome_json(outcome))


@router.get(
    "/webhooks/{id:id}/deliveries/",
    auth=CAN_READ,
    response=responses(list[schemas.WebhookDelivery], 404),
    operation_id="list_deliveries",
    summary="What was delivered to a webhook, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_deliveries(request: ApiRequest, id: Id, filters: Query[schemas.DeliveryFilter]) -> HttpResponse:
    """They are kept for `RETENTION_DAYS`, as tasks are."""
    deliveries = models.Delivery.objects.filter(channel=find(id)).select_related("event")
    if filters.state is not None:
        deliveries = deliveries.in_state(filters.state)
    if filters.type is not None:
        deliveries = deliveries.filter(event__type=filters.type)
    page, more = paging.newest_first(request, deliveries, filters)
    return json_response([_delivery_json(row) for row in page], headers=more)


@router.post(
    "/webhooks/{id:id}/deliveries/{id:delivery_id}/resend/",
    auth=CAN_MANAGE,
    response=responses(schemas.WebhookDelivery, 404, 409, *WITH_BODY),
    operation_id="resend_delivery",
    summary="Send an event again",
)
def resend_delivery(
    request: ApiRequest, id: Id, delivery_id: Id, options: Query[schemas.BodyOptions]
) -> HttpResponse:
    """It keeps its `webhook-id`. If a delivery of it is due anyway, this is a conflict."""
    read_optional(request, schemas.NoFields, options.unknown_fields)
    deliveries = models.Delivery.objects.filter(pk=delivery_id, channel=find(id)).select_related(
        "event", "channel"
    )
    row = deliveries.first()
    if row is None:
        raise Http404(f"The webhook {id} has no delivery {delivery_id}.")
    delivery.send_again(row, by=request.caller.actor, at=store.now())
    return json_response(_delivery_json(deliveries.get()))
