"""Users: the people whose IDs are in lists. Most are created from an ID in a list, and get a name later or never."""

import secrets
from datetime import datetime

from django.db import IntegrityError, transaction

from operators.actor import Actor
from scheduling import activity, models, store
from scheduling.core import id_tokens
from scheduling.core.errors import BadFields, IdTaken
from scheduling.lists import external_ids

NAME_LENGTH = 200


def create(
    *,
    user_id: int | None = None,
    external_id: str | None = None,
    name: str = "",
    by: Actor,
    at: datetime,
) -> models.User:
    """Create a user. Without `user_id` and `external_id`, a free ID is chosen. Raises BadFields, IdTaken.

    external_id: the ID of a user whose ID is text, in its normal form (`id_tokens.read_text`).
    """
    _check_name(name)
    if external_id is not None:
        return _create_with_text(user_id, external_id, name, by=by, at=at)
    if user_id is not None and not 1 <= user_id <= models.MAX_ID:
        raise BadFields(id=f"It must be a whole number from 1 to {models.MAX_ID}.")
    with store.write():
        user = _insert(user_id, name, at)
        while user is None:
            if user_id is not None:
                raise IdTaken(id=user_id)
            # Another request was given the same free ID at the same moment.
            user = _insert(None, name, at)
        activity.record(by, "created", user, at=at, after={"name": name})
    return user


def _create_with_text(
    user_id: int | None, external_id: str, name: str, *, by: Actor, at: datetime
) -> models.User:
    if user_id is not None:
        raise BadFields(external_id="A user has either an id or an external_id.")
    with store.write():
        store.keep_people()
        [number] = external_ids.number([external_id])
        user = _insert(number, name, at)
        if user is None:
            raise IdTaken(id=external_id)
        activity.record(by, "created", user, at=at, after={"name": name})
    return user


def _insert(user_id: int | None, name: str, at: datetime) -> models.User | None:
    user = models.User(id=user_id or _free_id(), name=name, created_at=at)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        return None
    return user


def _free_id() -> int:
    """Return a free ID: the one after the largest, or, if there is none, a random one that JavaScript can represent.

    It doesn't come from a sequence, which would end for good once somebody had chosen the largest ID.
    """
    # The numbers of users whose IDs are text are negative.
    largest = max(0, models.User.objects.order_by("-pk").values_list("pk", flat=True).first() or 0)
    if largest < models.MAX_ID:
        return largest + 1
    while models.User.objects.filter(
        pk=(candidate := 1 + secrets.randbelow(id_tokens.PAST_JAVASCRIPT - 1))
    ).exists():
        continue
    return candidate


def rename(user: models.User, name: str, *, by: Actor, at: datetime) -> models.User:
    """Set or remove a user's name; return the user as stored. Raises BadFields, User.DoesNotExist."""
    _check_name(name)
    with store.write():
        user = models.User.objects.select_for_update().get(pk=user.pk)
        before, user.name = user.name, name
        if before != name:
            user.save(update_fields=["name"])
            activity.record(by, "renamed", user, at=at, before={"name": before}, after={"name": name})
    return user


def delete(user: models.User, *, by: Actor, at: datetime) -> None:
    """Delete the user's row, which has the name and the time of its creation.

    The ID stays in its lists, and its waiting requests are still sent: an assignment belongs to its task, where it can
    be cancelled. The next list that contains the ID creates a new row without a name.
    """
    with store.write():
        if models.User.objects.filter(pk=user.pk).delete()[0]:
            activity.record(by, "deleted", user, at=at, before={"name": user.name})


def _check_name(name: str) -> None:
    if len(name) > NAME_LENGTH:
        raise BadFields(name=f"It must have at most {NAME_LENGTH} characters.")
    if "\0" in name:
        raise BadFields(name="It contains a zero byte.")
