"""People who are erased beside other work: a list that is just being read, or a request that is to be repeated."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from django.db.models import QuerySet

from scheduling import models, store
from scheduling.core.errors import ErasedMeanwhile
from scheduling.lists import stored_lists

VERB = "erased"
# Erasures that began this long before a list was read are committed by then, whatever the clocks of the hosts say.
_COMMITTED_AFTER = timedelta(hours=1)


def entries(at: datetime) -> frozenset[int]:
    """Return what the activity log has of erasures since an hour before `at`, by key."""
    return frozenset(_since(at).values_list("pk", flat=True))


def _since(at: datetime) -> QuerySet[models.Activity]:
    return _of_people().filter(at__gte=at - _COMMITTED_AFTER)


def _of_people() -> QuerySet[models.Activity]:
    return models.Activity.objects.filter(verb=VERB, object_kind="user").order_by()


def check(draft: models.IdList, before: Iterable[int]) -> None:
    """Check a draft whose IDs are all stored. before: the entries of when its reading began. Raises ErasedMeanwhile.

    An ID that was looked up before its erasure would be stored under the number that stood for it, and its data with
    it. From here on, an erasure finds the draft.
    """
    with store.write():
        store.keep_people()
        users = _since(draft.created_at).exclude(pk__in=before).values_list("object_id", flat=True)
        if any(stored_lists.position_of(draft.pk, user) is not None for user in users if user is not None):
            raise ErasedMeanwhile


def people() -> list[int]:
    """Return the numbers of everybody whose erasure is in the activity log."""
    numbers = _of_people().values_list("object_id", flat=True)
    return sorted({number for number in numbers if number is not None})


def latest(users: Collection[int]) -> dict[int, datetime]:
    """Return when each of these people was erased last; those that never were are missing."""
    erased_at = dict(_of_people().filter(object_id__in=users).order_by("at").values_list("object_id", "at"))
    if texts := {user for user in users if user < 0}:
        # A number that no longer stands for an ID is never given again.
        existing = models.ExternalId.objects.filter(pk__in=texts).values_list("pk", flat=True)
        erased_at |= dict.fromkeys(texts.difference(existing), datetime.max.replace(tzinfo=UTC))
    return {user: at for user, at in erased_at.items() if user is not None}
