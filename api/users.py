"""Users: the people whose IDs are in lists."""

from datetime import datetime
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpResponse
from ninja import Query, Router

from api import paging, schemas
from api.auth import CAN_READ, CAN_WRITE, ApiRequest
from api.bodies import read_fields
from api.endpoints import WITH_BODY, responses
from api.fields import UserNumber
from api.idempotency import key_of_fields, replayed
from api.openapi import describe, fields_body
from api.responses import check_if_match, etag_of, json_response, location_of, revalidated
from api.serializers import user_json
from scheduling import models, store, users
from scheduling.intake import idempotency
from scheduling.lists import external_ids
from scheduling.tasks import erasure

router = Router(tags=["Users"])

_EDITED = responses(schemas.User, 404, 412, *WITH_BODY)


@router.get(
    "/users/",
    auth=CAN_READ,
    response=responses(list[schemas.User]),
    operation_id="list_users",
    summary="All users, newest first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_users(request: ApiRequest, filters: Query[schemas.UserFilter]) -> HttpResponse:
    """Including those received by ID in a list, whose name is empty until somebody sets it."""
    after = paging.read_cursor(request, filters.cursor)
    matching_users = models.User.objects.order_by("-created_at", "-pk")
    if after is not None:
        created_at, user_id = datetime.fromisoformat(after[0]), after[1]
        # The first condition is a range of the index, which an OR alone is not.
        matching_users = matching_users.filter(created_at__lte=created_at)
        matching_users = matching_users.filter(Q(created_at__lt=created_at) | Q(pk__lt=user_id))
    if filters.id is not None:
        matching_users = matching_users.filter(pk__in=[int(word) for word in filters.id.split(",")])
    if filters.external_id is not None:
        matching_users = matching_users.filter(pk=external_ids.number_of(filters.external_id) or 0)
    if filters.name is not None:
        matching_users = matching_users.filter(name=filters.name)
    if filters.name:
        # The condition of the index on names, which excludes the millions without a name.
        matching_users = matching_users.exclude(name="")
    rows = list(matching_users[: filters.limit + 1])
    page = rows[: filters.limit]
    more = (
        paging.next_link(request, [page[-1].created_at.isoformat(), page[-1].pk])
        if len(rows) > len(page)
        else {}
    )
    return revalidated(request, json_response(_users_json(page), headers=more))


@router.post(
    "/users/",
    auth=CAN_WRITE,
    response=responses(schemas.User, 409, *WITH_BODY, status=201),
    operation_id="create_user",
    summary="Create a user",
    openapi_extra=describe(
        body=fields_body(schemas.NewUser), headers=["Idempotency-Key"], sent={201: ["Location", "ETag"]}
    ),
)
def create_user(request: ApiRequest, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Without an `id`, a free one is chosen. An `id` that is taken is a conflict."""
    fields = read_fields(request, schemas.NewUser, options.unknown_fields)

    def create() -> dict[str, Any]:
        user = users.create(
            user_id=fields.id,
            external_id=fields.external_id,
            name=fields.name,
            by=request.caller.actor,
            at=store.now(),
        )
        return user_json(user, fields.external_id)

    key = key_of_fields(
        request, [fields.id, fields.name, *([fields.external_id] if fields.external_id is not None else [])]
    )
    user, is_repeated = idempotency.once(key, create, now=store.now)
    headers = replayed({"Location": location_of(request, user["id"])}, is_repeated)
    return json_response(user, status=201, etag=etag_of(user["id"], user["name"]), headers=headers)


def _users_json(page_users: list[models.User]) -> list[dict[str, Any]]:
    texts = external_ids.texts(user.pk for user in page_users)
    return [user_json(user, texts.get(user.pk)) for user in page_users]


def find(user_id: int) -> models.User:
    user = models.User.objects.filter(pk=user_id).first()
    if user is None:
        raise Http404(f"There is no user {user_id}.")
    return user


def _tag(user: models.User) -> str:
    return etag_of(user.pk, user.name)


@router.get(
    "/users/{user_number:id}/",
    auth=CAN_READ,
    response=responses(schemas.User, 404),
    operation_id="get_user",
    summary="One user",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_user(request: ApiRequest, id: UserNumber) -> HttpResponse:
    user = find(id)
    return revalidated(request, json_response(_users_json([user])[0], etag=_tag(user)))


@router.put(
    "/users/{user_number:id}/",
    auth=CAN_WRITE,
    response=_EDITED,
    operation_id="put_user",
    summary="Set the name of a user",
    openapi_extra=describe(
        body=fields_body(schemas.UserReplacement), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def put_user(request: ApiRequest, id: UserNumber, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Only the name can be changed: `id` and `date_created` in the body are ignored."""
    user = find(id)
    return _renamed(request, user, read_fields(request, schemas.UserReplacement, options.unknown_fields).name)


@router.patch(
    "/users/{user_number:id}/",
    auth=CAN_WRITE,
    response=_EDITED,
    operation_id="patch_user",
    summary="Set the name of a user",
    openapi_extra=describe(
        body=fields_body(schemas.UserUpdate, patch=True), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def patch_user(request: ApiRequest, id: UserNumber, options: Query[schemas.BodyOptions]) -> HttpResponse:
    """Without a name, nothing changes."""
    user = find(id)
    return _renamed(request, user, read_fields(request, schemas.UserUpdate, options.unknown_fields).name)


def _renamed(request: ApiRequest, user: models.User, name: str | None) -> HttpResponse:
    check_if_match(request, _tag(user))
    if name is not None:
        try:
            user = users.rename(user, name, by=request.caller.actor, at=store.now())
        except models.User.DoesNotExist:
            raise Http404(f"There is no user {user.pk}.") from None
    return json_response(_users_json([user])[0], etag=_tag(user))


@router.delete(
    "/users/{user_number:id}/",
    auth=CAN_WRITE,
    response=responses(None, 404, 409, 412, status=204),
    operation_id="delete_user",
    summary="Delete a user's row",
    openapi_extra=describe(headers=["If-Match"]),
)
def delete_user(request: ApiRequest, id: UserNumber, options: Query[schemas.Erasure]) -> HttpResponse:
    """The name is deleted. The ID stays in its tasks, and is still sent if it is waiting.

    With `erase=true` everything about the person is deleted instead: the name, the ID if it is text, the data, and
    the responses that are kept. Whatever is waiting is cancelled, and rows keep only the number.
    """
    if options.erase:
        user = models.User.objects.filter(pk=id).first()
        if user is not None:
            check_if_match(request, _tag(user))
        erasure.erase(id, by=request.caller.actor, now=store.now)
        return HttpResponse(status=204)
    user = find(id)
    check_if_match(request, _tag(user))
    users.delete(user, by=request.caller.actor, at=store.now())
    return HttpResponse(status=204)
