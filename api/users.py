"""Users: the people whose IDs are in lists."""

from django.http import Http404, HttpResponse
from ninja import Query, Router

from scheduling import models, store, users

from . import paging, schemas
from .answers import answer, below, check_match, tag_of
from .auth import READERS, WRITERS, ApiRequest
from .bodies import read_fields
from .endpoints import WITH_BODY, answers
from .openapi import describe, fields_body
from .renders import user_answer

router = Router(tags=["Users"])

_EDITED = answers(schemas.User, 404, 412, *WITH_BODY)


@router.get(
    "/users/",
    auth=READERS,
    response=answers(list[schemas.User]),
    operation_id="list_users",
    summary="All users, the highest ID first",
    openapi_extra=describe(sent={200: ["Link"]}),
)
def list_users(request: ApiRequest, filters: Query[schemas.UserFilter]) -> HttpResponse:
    """Those that came by ID in a list too, with an empty name until somebody names them."""
    begun = paging.begin(request, filters.cursor)
    found = models.User.objects.order_by("-pk")
    if begun is not None:
        found = found.filter(pk__lt=begun[0])
    if filters.id is not None:
        found = found.filter(pk=filters.id)
    if filters.name is not None:
        found = found.filter(name=filters.name)
    if filters.name:
        # As the index on names says it: among millions without a name it is the only way in.
        found = found.exclude(name="")
    rows = list(found[: filters.limit + 1])
    page = rows[: filters.limit]
    more = {"Link": paging.link(request, [page[-1].pk])} if len(rows) > len(page) else {}
    return answer([user_answer(user) for user in page], **more)


@router.post(
    "/users/",
    auth=WRITERS,
    response=answers(schemas.User, 409, *WITH_BODY, status=201),
    operation_id="create_user",
    summary="Make a user",
    openapi_extra=describe(body=fields_body(schemas.NewUser), sent={201: ["Location", "ETag"]}),
)
def create_user(request: ApiRequest) -> HttpResponse:
    """Without an `id` a free one is chosen; a taken one is a conflict."""
    fields = read_fields(request, schemas.NewUser)
    user = users.create(user_id=fields.id, name=fields.name, by=request.caller.actor, at=store.now())
    return answer(user_answer(user), status=201, tag=_tag(user), Location=below(request, user.pk))


def find(user_id: int) -> models.User:
    user = models.User.objects.filter(pk=user_id).first()
    if user is None:
        raise Http404(f"There is no user {user_id}.")
    return user


def _tag(user: models.User) -> str:
    return tag_of(user.pk, user.name)


@router.get(
    "/users/{id:id}/",
    auth=READERS,
    response=answers(schemas.User, 404),
    operation_id="get_user",
    summary="One user",
    openapi_extra=describe(sent={200: ["ETag"]}),
)
def get_user(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    user = find(id)
    return answer(user_answer(user), tag=_tag(user))


@router.put(
    "/users/{id:id}/",
    auth=WRITERS,
    response=_EDITED,
    operation_id="put_user",
    summary="Name a user",
    openapi_extra=describe(body=fields_body(schemas.WholeUser), headers=["If-Match"], sent={200: ["ETag"]}),
)
def put_user(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    """An ID is never changed; `id` and `date_created` in the body are passed over."""
    user = find(id)
    return _renamed(request, user, read_fields(request, schemas.WholeUser).name)


@router.patch(
    "/users/{id:id}/",
    auth=WRITERS,
    response=_EDITED,
    operation_id="patch_user",
    summary="Name a user",
    openapi_extra=describe(
        body=fields_body(schemas.PartOfUser, patch=True), headers=["If-Match"], sent={200: ["ETag"]}
    ),
)
def patch_user(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    """The same; without a name nothing changes."""
    user = find(id)
    return _renamed(request, user, read_fields(request, schemas.PartOfUser).name)


def _renamed(request: ApiRequest, user: models.User, name: str | None) -> HttpResponse:
    check_match(request, _tag(user))
    if name is not None:
        try:
            user = users.rename(user, name, by=request.caller.actor, at=store.now())
        except models.User.DoesNotExist:
            raise Http404(f"There is no user {user.pk}.") from None
    return answer(user_answer(user), tag=_tag(user))


@router.delete(
    "/users/{id:id}/",
    auth=WRITERS,
    response=answers(None, 404, 412, status=204),
    operation_id="delete_user",
    summary="Delete a user's row",
    openapi_extra=describe(headers=["If-Match"]),
)
def delete_user(request: ApiRequest, id: schemas.Id) -> HttpResponse:
    """The name goes; what tasks hold of the ID stays, and what waits is still sent: cancel it in its task."""
    user = find(id)
    check_match(request, _tag(user))
    users.delete(user, by=request.caller.actor, at=store.now())
    return HttpResponse(status=204)
