"""Replacing a task's list by a pasted one, which is read by the function that reads every list."""

from typing import Any

from django import forms
from django.conf import settings

from operators.actor import Actor
from scheduling import models, store
from scheduling.lists.record_lists import source_of
from scheduling.parsing import Limits, read_body
from scheduling.tasks import edits

# The API keeps and returns lists up to the same length.
PAYLOAD_KEPT = 1000


class ListForm(forms.Form):
    payload = forms.CharField(
        label="IDs",
        # The reader trims what surrounds the first and the last ID, and counts lines by it.
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "spellcheck": "false"}),
        help_text="Separated by commas, spaces or line breaks; up to 2 MB. Use the API for longer lists.",
    )
    allow_peak = forms.BooleanField(label="Allow minutes above the queue's max_peak", required=False)
    version = forms.IntegerField(widget=forms.HiddenInput)


def replace(task: models.Task, values: dict[str, Any], *, by: Actor) -> edits.Replaced:
    """Replace a task's list. Raises ReadingError, ValidationError for a token that is not an ID, or Refused."""
    body = values["payload"].encode()
    with read_body(
        [body],
        content_type="text/plain",
        content_length=len(body),
        limits=Limits(max_ids=settings.INTAKE_MAX_IDS, max_body_bytes=settings.INTAKE_MAX_BODY_BYTES),
        spool_dir=settings.SPOOL_DIR,
        id_type=task.id_type,
    ) as reading:
        if reading.fault_count:
            first, more = reading.faults[0], reading.fault_count - 1
            rest = f", and {more:,} more" if more else ""
            raise forms.ValidationError(f"Line {first.line}: {first.token!r} is {first.reason}{rest}.")
        is_kept = reading.spool is not None and reading.ids_count + reading.repeats_count <= PAYLOAD_KEPT
        return edits.replace(
            task,
            source_of(reading),
            payload=values["payload"] if is_kept else None,
            allow_peak=values["allow_peak"],
            if_version=values["version"],
            by=by,
            now=store.now,
        )


def words(replaced: edits.Replaced) -> str:
    """Return a sentence about what became of the old list and the new one."""
    sentence = (
        f"The list has been replaced: {replaced.kept:,} kept, {replaced.added:,} new, "
        f"{replaced.cancelled:,} cancelled"
    )
    remarks = [
        f"{count:,} of those left out {word}"
        for count, word in (
            (replaced.already_sent, "had already been sent"),
            (replaced.in_flight, "are being sent now"),
        )
        if count
    ]
    return f"{'; '.join([sentence, *remarks])}."
