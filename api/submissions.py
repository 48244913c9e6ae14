"""POST /celery_ids_tasks/: a list comes in."""

import hashlib
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Query

from scheduling import models, store
from scheduling.core import errors, id_tokens
from scheduling.intake import acceptance
from scheduling.parsing.body import read_body
from scheduling.parsing.reading import Reading
from scheduling.parsing.results import WARNINGS

from . import schemas
from .answers import answer, below
from .auth import WRITERS, ApiRequest
from .bodies import checked, content_length, list_limits, pieces
from .endpoints import WITH_BODY, answers
from .openapi import LIST_BODY, describe
from .plans import plan_answer
from .problems import Problem, bad_field, fault_answer
from .renders import task_answer
from .tasks import router

PAYLOAD_KEPT = 1000
LONGEST_KEY = 255


@router.post(
    "/celery_ids_tasks/",
    auth=WRITERS,
    response=answers(schemas.Accepted, 409, *WITH_BODY, status=201) | {200: schemas.Accepted},
    operation_id="submit_list",
    summary="Send a list",
    openapi_extra=describe(body=LIST_BODY, headers=["Idempotency-Key"], sent={201: ["Location"]}),
)
def submit(request: ApiRequest, options: Query[schemas.ListOptions]) -> HttpResponse:
    """Read the list as it arrives, and place it whole or not at all. The answer holds its plan.

    Nothing is stored with `dry_run=true`, and nothing where the answer is a problem. With `Idempotency-Key`
    an equal request within 7 days gets the answer of the first one.
    """
    key = idempotency_key(request)
    with read_list(request, options) as reading:
        submission = submission_of(reading, options)
        refuse_faults(reading, options.on_error)
        if options.dry_run:
            return _preview(reading, submission)
        accepted = acceptance.submit(
            submission,
            reading.spool,
            by=request.caller.actor,
            now=store.now,
            render=lambda accepted: accepted_answer(reading, accepted),
            key=key
            and acceptance.IdempotencyKey(
                request.caller.key_scope, key, fingerprint(reading, submission, options)
            ),
        )
        return answer(accepted.answer, status=201, Location=below(request, accepted.answer["task_id"]))


def read_list(request: HttpRequest, options: Any, *, payload_optional: bool = False) -> Reading:
    """Read the request's body. No lock is held and no transaction open while it travels."""
    return read_body(
        pieces(request),
        content_type=request.headers.get("Content-Type"),
        content_encoding=request.headers.get("Content-Encoding"),
        content_length=content_length(request),
        limits=list_limits(),
        spool_dir=settings.SPOOL_DIR,
        column=options.column,
        skip_faults=options.on_error == "skip",
        payload_optional=payload_optional,
        ignorable=ONLY_READ,
    )


QUERY_ONLY = ("dry_run", "on_error", "allow_peak", "expect")
# What GET gives of a task and nobody can set.
ONLY_READ = frozenset(schemas.Task.model_fields) - frozenset(schemas.ListFields.model_fields)


def fields_of(reading: Reading, options: Any) -> schemas.ListFields:
    """Join the fields of the body with those of the query. Raises Problem where they differ or are wrong."""
    # Passed over, a dry run would be a real one.
    misplaced = [name for name in QUERY_ONLY if name in reading.fields.unknown]
    if misplaced:
        raise bad_field(misplaced[0], "it is a query parameter, not a field of the body")
    fields = checked(schemas.ListFields, dict(reading.fields.values))
    for name in schemas.ListFields.model_fields:
        asked, given = getattr(options, name, None), getattr(fields, name)
        if asked is not None and given is not None and asked != given:
            raise bad_field(name, "the body and the query say different things")
        if given is None:
            setattr(fields, name, asked)
    return fields


def submission_of(reading: Reading, options: schemas.ListOptions) -> acceptance.Submission:
    fields = fields_of(reading, options)
    if fields.task_name is None:
        raise bad_field("task_name", "a task needs a name of 1 to 200 characters")
    return acceptance.Submission(
        task_name=fields.task_name,
        queue_name=fields.queue or "default",
        payload=payload_kept(reading),
        column=column_name(reading) or "",
        not_before=fields.not_before,
        expires_at=fields.expires_at,
        allow_peak=options.allow_peak,
        expect=options.expect,
    )


def refuse_faults(reading: Reading, on_error: str) -> None:
    """Raise Problem (422) for a list that has a bad token, unless those are to be skipped."""
    if not reading.fault_count or on_error == "skip":
        return
    first = reading.faults[0]
    more = f", and {reading.fault_count - 1:,} more" if reading.fault_count > 1 else ""
    raise Problem(
        "bad-list",
        f"Nothing was stored: {first.token or 'an empty entry'} is {first.reason}{more}.",
        places=[fault_answer(fault) for fault in reading.faults],
        fault_count=reading.fault_count,
        column=column_name(reading),
        warnings=warnings_answer(reading),
    )


def idempotency_key(request: HttpRequest) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    key = key.strip()
    if not 1 <= len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise Problem(
            "bad-parameter",
            f"Idempotency-Key: 1 to {LONGEST_KEY} visible characters are expected.",
            places=[
                {"header": "Idempotency-Key", "reason": f"1 to {LONGEST_KEY} visible characters are expected"}
            ],
        )
    return key


def fingerprint(reading: Reading, submission: acceptance.Submission, options: schemas.ListOptions) -> str:
    """What makes two requests the same: their IDs and parameters, not the bytes around them."""
    facts = [
        reading.digest,
        submission.task_name,
        submission.queue_name,
        submission.not_before,
        submission.expires_at,
        options.on_error,
        options.allow_peak,
        options.expect,
    ]
    return hashlib.sha256(orjson.dumps(facts)).hexdigest()


def payload_kept(reading: Reading) -> Any:
    """The payload as it was sent, where it is short; of a raw list its IDs: a PUT may bring them back."""
    if reading.payload_as_sent is not None:
        return reading.payload_as_sent
    if not reading.ids_count or reading.ids_count + reading.repeats_count > PAYLOAD_KEPT:
        return None
    block = next(reading.spool.unique_blocks(PAYLOAD_KEPT))
    return [str(user) if user >= id_tokens.PAST_JAVASCRIPT else user for user in block]


def column_name(reading: Reading) -> str | None:
    """The column that was read, by its header, or by its number where there is none."""
    if reading.column is None:
        return None
    return reading.column.name or (str(reading.column.number) if reading.column.number else None)


def warnings_answer(reading: Reading) -> list[dict[str, Any]]:
    return [
        {"kind": kind, "count": count, "message": f"{count:,} times: {WARNINGS[kind]}"}
        for kind, count in sorted(reading.warnings.items())
    ]


def accepted_answer(reading: Reading, accepted: acceptance.Accepted) -> dict[str, Any]:
    """The answer to a list: made once, and kept for equal requests."""
    task, plan = accepted.task, accepted.plan
    counted = f"{plan.ids_count:,} {'ID' if plan.ids_count == 1 else 'IDs'}"
    return {
        "message": f"Task {task.pk} has its plan for {counted}."
        if task
        else f"{counted} would be placed so.",
        "task_id": task.pk if task else None,
        "task": task_answer(task, at=task.created_at) if task else None,
        "repeats": reading.repeats_count,
        "column": column_name(reading),
        "column_number": reading.column.number if reading.column else None,
        "first_ids": [str(user) for user in reading.spool.first()],
        "last_ids": [str(user) for user in reading.spool.last()],
        "warnings": warnings_answer(reading),
        "faults": [fault_answer(fault) for fault in reading.faults],
        "fault_count": reading.fault_count,
        "plan": plan_answer(plan),
        "same_as": accepted.same_as,
    }


def _preview(reading: Reading, submission: acceptance.Submission) -> HttpResponse:
    at = store.now()
    plan = acceptance.preview(submission, reading.ids_count, at=at)
    queue = models.Queue.objects.filter(name=submission.queue_name).first()
    if queue is None:
        raise errors.NoSuchQueue(name=submission.queue_name)
    twin = acceptance.same_as(queue, reading.spool.same_as_digest, at=at)
    return answer(accepted_answer(reading, acceptance.Accepted(None, plan, twin)))
