"""Another list for one task, pasted: read by the function that reads every list."""

from typing import Any

from django import forms
from django.conf import settings

from operators.actor import Actor
from scheduling import models, store
from scheduling.parsing import Limits, read_body
from scheduling.tasks import edits

# As short as what the API keeps and gives back.
PAYLOAD_KEPT = 1000


class ListForm(forms.Form):
    payload = forms.CharField(
        label="IDs",
        # What is around the first and the last ID is the reader's to trim, and to count.
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "spellcheck": "false"}),
        help_text="Separated by commas, blanks or line ends; up to 2 MB. Longer lists go in by the API.",
    )
    allow_peak = forms.BooleanField(label="Also past the queue's max_peak", required=False)
    version = forms.IntegerField(widget=forms.HiddenInput)


def replace(task: models.Task, given: dict[str, Any], *, by: Actor) -> edits.Replaced:
    """Raises ReadingError, ValidationError for what is no ID, Refused; then nothing has changed."""
    body = given["payload"].encode()
    with read_body(
        [body],
        content_type="text/plain",
        content_length=len(body),
        limits=Limits(max_ids=settings.INTAKE_MAX_IDS, max_body_bytes=settings.INTAKE_MAX_BODY_BYTES),
        spool_dir=settings.SPOOL_DIR,
    ) as reading:
        if reading.fault_count:
            first, more = reading.faults[0], reading.fault_count - 1
            rest = f", and {more:,} more" if more else ""
            raise forms.ValidationError(f"Line {first.line}: {first.token!r} is {first.reason}{rest}.")
        return edits.replace(
            task,
            reading.spool,
            payload=given["payload"] if reading.ids_count + reading.repeats_count <= PAYLOAD_KEPT else None,
            allow_peak=given["allow_peak"],
            if_version=given["version"],
            by=by,
            now=store.now,
        )


def words(replaced: edits.Replaced) -> str:
    """What became of the old list and the new one."""
    said = (
        f"The list is replaced: {replaced.kept:,} IDs keep their place, {replaced.added:,} are new, "
        f"{replaced.cancelled:,} are cancelled"
    )
    gone = [
        f"{count:,} of those left out {word}"
        for count, word in (
            (replaced.already_sent, "were sent already"),
            (replaced.in_flight, "are just being sent"),
        )
        if count
    ]
    return f"{'; '.join([said, *gone])}."
