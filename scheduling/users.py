"""Users: the people whose IDs are in lists. Most come in by their ID alone, and get a name later or never."""

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
    """Make a user, with a free ID where none is asked for. Raises BadFields, IdTaken.

    external_id: of one whose ID is text, in its normal form (`id_tokens.read_text`).
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
            # Somebody else was given the same free one in the same moment.
            user = _insert(None, name, at)
        activity.record(by, "created", user, at=at, after={"name": name})
    return user


def _create_with_text(
    user_id: int | None, external_id: str, name: str, *, by: Actor, at: datetime
) -> models.User:
    if user_id is not None:
        raise BadFields(external_id="a user has either an id or an external_id")
    with store.write():
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
    """The one after the largest; where that is taken as well, one that every receiver can hold.

    Not from a sequence: that would end for good once the largest ID was given.
    """
    # Of users whose IDs are text it is negative.
    largest = max(0, models.User.objects.order_by("-pk").values_list("pk", flat=True).first() or 0)
    if largest < models.MAX_ID:
        return largest + 1
    while models.User.objects.filter(
        pk=(drawn := 1 + secrets.randbelow(id_tokens.PAST_JAVASCRIPT - 1))
    ).exists():
        continue
    return drawn


def rename(user: models.User, name: str, *, by: Actor, at: datetime) -> models.User:
    """Give a user a name, or none; return the user as stored. Raises BadFields, and User.DoesNotExist."""
    _check_name(name)
    with store.write():
        user = models.User.objects.select_for_update().get(pk=user.pk)
        before, user.name = user.name, name
        if before != name:
            user.save(update_fields=["name"])
            activity.record(by, "renamed", user, at=at, before={"name": before}, after={"name": name})
    return user


def delete(user: models.User, *, by: Actor, at: datetime) -> None:
    """Delete the user's row: the name and the day it came.

    What lists hold of the ID stays, and what waits is sent all the same: an assignment belongs to its task,
    which is where it can be cancelled. The next list with the ID makes a new row without a name.
    """
    with store.write():
        if models.User.objects.filter(pk=user.pk).delete()[0]:
            activity.record(by, "deleted", user, at=at, before={"name": user.name})


def _check_name(name: str) -> None:
    if len(name) > NAME_LENGTH:
        raise BadFields(name=f"It must have at most {NAME_LENGTH} characters.")
    if "\0" in name:
        raise BadFields(name="It contains a zero byte.")
