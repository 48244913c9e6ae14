"""IDs that are text: each gets a negative number, which stands for it in lists, rows and counters.

Numbers are given in sets, in the order of the list, and never again: not even that of an ID that was erased.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from django.db.models import Exists, OuterRef

from scheduling import models, store
from scheduling.core import limits


def number(texts: Sequence[str]) -> array[int]:
    """Return the numbers of IDs, all different; those that have none get one, in a short transaction."""
    known = store.numbers_of_texts(texts)
    if len(known) < len(texts):
        with store.write():
            # Whoever gives numbers holds this row, so that no ID gets two.
            models.Installation.current()
            installation = models.Installation.objects.select_for_update().get(pk=1)
            known |= store.numbers_of_texts([text for text in texts if text not in known])
            new = [text for text in texts if text not in known]
            last = installation.last_external_number
            given = {text: last - count for count, text in enumerate(new, 1)}
            store.insert_external_ids([(user, text) for text, user in given.items()])
            if given:
                models.Installation.objects.filter(pk=1).update(last_external_number=last - len(given))
            known |= given
    return array("q", map(known.__getitem__, texts))


def number_of(text: str) -> int | None:
    """Return the number of an ID, or None if it has none."""
    return models.ExternalId.objects.filter(external_id=text).values_list("pk", flat=True).first()


def texts(users: Iterable[int]) -> dict[int, str]:
    """Return the IDs that are text, by their number. Of numbers that stand for themselves nothing is read."""
    wanted = sorted({user for user in users if user < 0})
    found: dict[int, str] = {}
    for start in range(0, len(wanted), limits.IDS_PER_QUERY):
        rows = models.ExternalId.objects.filter(pk__in=wanted[start : start + limits.IDS_PER_QUERY])
        found.update(rows.values_list("pk", "external_id"))
    return found


def release(draft: models.IdList, users: Sequence[int]) -> bool:
    """Take back the numbers of a draft's IDs that nobody has used, in the open transaction.

    Returns False if another list is being read or written that may have them too: then they are taken back later.
    """
    models.Installation.objects.select_for_update().filter(pk=1).first()
    if _others(draft):
        return False
    for start in range(0, len(users), limits.IDS_PER_QUERY):
        some = users[start : start + limits.IDS_PER_QUERY]
        unused = models.ExternalId.objects.filter(
            ~Exists(models.User.objects.filter(pk=OuterRef("pk"))),
            ~Exists(models.Assignment.objects.filter(user_id=OuterRef("pk"))),
            pk__in=some,
        )
        numbers = list(unused.values_list("pk", flat=True))
        models.ExternalId.objects.filter(pk__in=numbers).delete()
    return True


def _others(draft: models.IdList) -> bool:
    """Whether another list of text IDs is a draft, or is being written."""
    drafts = models.IdList.objects.filter(accepted_at=None, about__id_type="text").exclude(pk=draft.pk)
    # Those that are given up wait for their own release.
    if drafts.exclude(about__has_key="given_up").exists():
        return True
    return models.Task.objects.filter(id_type="text", placed_at=None).exists()
