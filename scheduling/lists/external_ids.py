"""IDs that are text: each gets a negative number, which stands for it in lists, rows and counters.

Numbers are given in sets, in the order of the list or of the texts, and never again: not even that of an ID that was
erased.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from django.db.models import Exists, OuterRef

from scheduling import models, store
from scheduling.core import id_tokens, limits
from scheduling.core.batches import batches
from scheduling.lists import stored_lists

# IDs that one transaction gives numbers: some 30 ms, as long as a slice of rows takes.
_NUMBERED_AT_ONCE = 8_192


def number(texts: Sequence[str]) -> array[int]:
    """Return the numbers of IDs, all different; those that have none get one, in short transactions."""
    # In the order of the index a transaction changes few of its pages; in any other, a page of it for each ID.
    # The first gets the highest number, and both are inserted from their ends.
    in_order = texts if len(texts) <= _NUMBERED_AT_ONCE else sorted(texts, reverse=True)
    numbers: dict[str, int] = {}
    for batch in batches(in_order, _NUMBERED_AT_ONCE):
        numbers |= _number_at_once(batch)
    return array("q", map(numbers.__getitem__, texts))


def _number_at_once(texts: Sequence[str]) -> dict[str, int]:
    last_before = models.Installation.current().last_external_number
    numbers = store.numbers_of_texts(texts)
    if len(numbers) < len(texts):
        with store.write():
            # Numbers are given under the lock of this row, so that no ID gets two.
            installation = models.Installation.objects.select_for_update().get(pk=1)
            new = [text for text in texts if text not in numbers]
            last = installation.last_external_number
            if last != last_before:
                # Others were given in the meantime.
                numbers |= store.numbers_of_texts(new)
                new = [text for text in new if text not in numbers]
            new_numbers = {text: last - count for count, text in enumerate(new, 1)}
            # Ascending: pages that are filled from their end stay half empty.
            store.insert_external_ids([(user, text) for text, user in reversed(new_numbers.items())])
            if new_numbers:
                models.Installation.objects.filter(pk=1).update(last_external_number=last - len(new_numbers))
            numbers |= new_numbers
    return numbers


def number_of(text: str) -> int | None:
    """Return the number of an ID, or None if it has none."""
    return models.ExternalId.objects.filter(external_id=text).values_list("pk", flat=True).first()


def is_received(number: int) -> bool:
    """Return whether any task has this ID, including those in which its row isn't written yet."""
    if models.Assignment.objects.filter(user_id=number).exists():
        return True
    placing = models.Task.objects.filter(placed_at=None).order_by("-pk")
    return bool(stored_lists.positions_of(number, placing.values("list_id")[: limits.LISTS_SEARCHED]))


def number_of_written(written_id: str, id_type: str | None = None) -> int | None:
    """Return the number of an ID as it is written, or None for what is none; 0 for a text that nobody has.

    Digits are a number, unless that was never received and the text was. id_type: `integer` or `text` decides.
    """
    number = None if id_type == "text" else id_tokens.read(written_id).id
    text = None if id_type == "integer" else id_tokens.read_text(written_id)[0]
    of_text = None if text is None else number_of(text)
    if of_text is not None and (number is None or not is_received(number)):
        return of_text
    if number is not None:
        return number
    is_number = id_type is None and written_id.isascii() and written_id.isdigit()
    return None if text is None or is_number else 0


def texts(users: Iterable[int]) -> dict[int, str]:
    """Return the IDs that are text, by their number. Positive numbers are IDs themselves: nothing is read for them."""
    numbers = sorted({user for user in users if user < 0})
    result: dict[int, str] = {}
    for batch in batches(numbers):
        rows = models.ExternalId.objects.filter(pk__in=batch)
        result.update(rows.values_list("pk", "external_id"))
    return result


def release(draft: models.IdList, users: Sequence[int]) -> bool:
    """Take back the numbers of a draft's IDs that nobody has used, in the open transaction.

    Returns False if another list is being read or written that may have them too: then they are taken back later.
    """
    models.Installation.objects.select_for_update().filter(pk=1).first()
    if _others(draft):
        return False
    for batch in batches(users):
        unused = models.ExternalId.objects.filter(
            ~Exists(models.User.objects.filter(pk=OuterRef("pk"))),
            ~Exists(models.Assignment.objects.filter(user_id=OuterRef("pk"))),
            pk__in=batch,
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
