"""POST /celery_ids_tasks/: submit a list."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Query

from api import schemas
from api.auth import CAN_SUBMIT, ApiRequest, check_queue
from api.bodies import FORM_NOISE, check_unknown, chunks, content_length, list_limits, validate
from api.endpoints import WITH_BODY, responses
from api.idempotency import idempotency_key, read_key, replayed
from api.openapi import LIST_BODY, describe
from api.plans import plan_json
from api.problems import Problem, bad_field, fault_json
from api.responses import json_response, location_of
from api.serializers import task_json
from api.tasks import router
from scheduling import models, store
from scheduling.core import errors, exact_json, id_tokens, stopping
from scheduling.core.clock import iso
from scheduling.intake import acceptance
from scheduling.lists.record_lists import source_of
from scheduling.parsing.body import read_body
from scheduling.parsing.reading import Reading
from scheduling.parsing.results import WARNINGS
from scheduling.placement import canaries
from scheduling.placement.reservations import Plan, Start
from scheduling.reports import first_requests

STORED_PAYLOAD_IDS = 1000


@router.post(
    "/celery_ids_tasks/",
    auth=CAN_SUBMIT,
    response=responses(schemas.Accepted, 409, *WITH_BODY, status=201) | {200: schemas.Accepted},
    operation_id="submit_list",
    summary="Submit a list",
    openapi_extra=describe(body=LIST_BODY, headers=["Idempotency-Key"], sent={201: ["Location"]}),
)
def submit(request: ApiRequest, options: Query[schemas.ListOptions]) -> HttpResponse:
    """The list is read as it arrives, and placed completely or not at all. The response contains its plan.

    Nothing is stored with `dry_run=true`, or if the response is a problem. With `Idempotency-Key`, the same
    request within 7 days gets the response of the first one.
    """
    header = read_key(request)
    with read_list(request, options) as reading:
        submission = submission_of(request, reading, options)
        check_queue(request.caller, submission.queue_name)
        refuse_faults(reading, options.on_error)
        if options.dry_run:
            return _preview(reading, submission)
        key = idempotency_key(request, header, fingerprint(reading, submission, options))
        accepted = acceptance.submit(
            submission,
            source_of(reading),
            by=request.caller.actor,
            now=store.now,
            render=lambda accepted: accepted_json(reading, accepted, submission.canary),
            key=key,
        )
        location = location_of(request, accepted.answer["task_id"])
        return json_response(
            accepted.answer, status=201, headers=replayed({"Location": location}, accepted.repeated)
        )


def read_list(
    request: HttpRequest,
    options: Any,
    *,
    payload_optional: bool = False,
    id_type: str | None = None,
    id_type_of: Callable[[str], str | None] | None = None,
) -> Reading:
    """Read the request's body. No lock is taken and no transaction is open while it arrives.

    id_type: of the list where neither query nor body says. id_type_of: the same, of the task named in the body.
    """
    return read_body(
        chunks(request),
        content_type=request.headers.get("Content-Type"),
        content_encoding=request.headers.get("Content-Encoding"),
        content_length=content_length(request),
        limits=list_limits(),
        spool_dir=settings.SPOOL_DIR,
        column=options.column,
        sheet=options.sheet,
        data=options.data,
        id_type=options.id_type,
        default_id_type=id_type,
        header=options.header,
        skip_faults=options.on_error == "skip",
        payload_optional=payload_optional,
        id_type_of=id_type_of,
        allowed=frozenset(schemas.ListFields.model_fields),
        ignorable=READ_ONLY_FIELDS,
    )


QUERY_ONLY = ("dry_run", "on_error", "allow_peak", "expect")
# The fields of a task in a GET that nobody can set.
READ_ONLY_FIELDS = FORM_NOISE | frozenset(schemas.Task.model_fields) - frozenset(
    schemas.ListFields.model_fields
)


def fields_of(request: ApiRequest, reading: Reading, options: Any) -> schemas.ListFields:
    """Combine the fields of the body and the query. Raises Problem if they differ or are invalid."""
    # If these were ignored, a dry run would be a real one.
    misplaced = [name for name in QUERY_ONLY if name in reading.fields.unknown]
    if misplaced:
        raise bad_field(misplaced[0], "This is a query parameter, not a field of the body.")
    names = [*schemas.ListFields.model_fields, "payload"]
    check_unknown(request, reading.fields.unknown, names, options.unknown_fields)
    fields = validate(schemas.ListFields, dict(reading.fields.values))
    for name in schemas.ListFields.model_fields:
        if name in ("data", "id_type", "header"):
            # Compared by what they mean, where the list is read.
            continue
        in_query, in_body = getattr(options, name, None), getattr(fields, name)
        if in_query is not None and in_body is not None and in_query != in_body:
            raise bad_field(name, "The body and the query have different values.")
        if in_body is None:
            setattr(fields, name, in_query)
    return fields


def submission_of(
    request: ApiRequest, reading: Reading, options: schemas.ListOptions
) -> acceptance.Submission:
    fields = fields_of(request, reading, options)
    if fields.task_name is None:
        raise bad_field("task_name", "A task needs a name of 1 to 200 characters.")
    if fields.min_finished is not None and fields.max_failed_percent is None:
        raise bad_field(
            "min_finished",
            "It needs max_failed_percent: this is how many IDs have to finish before that counts.",
        )
    return acceptance.Submission(
        task_name=fields.task_name,
        queue_name=fields.queue or "default",
        payload=stored_payload(reading),
        column=stored_column(reading),
        not_before=fields.not_before,
        expires_at=fields.expires_at,
        deadline=fields.deadline,
        max_failed_percent=fields.max_failed_percent,
        min_finished=fields.min_finished,
        canary=fields.canary,
        allow_peak=options.allow_peak,
        expect=options.expect,
        start=fields.start or Start.NEXT_WINDOW,
        reference=fields.reference or "",
        data_columns=columns_of(reading),
    )


def columns_of(reading: Reading) -> tuple[str, ...] | None:
    """Return the columns that travel with the IDs; None where none do."""
    return reading.data_columns if reading.records is not None and reading.records.has_data else None


def refuse_faults(reading: Reading, on_error: str) -> None:
    """Raise Problem (422) for a list with an invalid token, unless those are to be skipped."""
    if not reading.fault_count or on_error == "skip":
        return
    others = reading.fault_count - 1
    more = f" There {'is 1 more fault' if others == 1 else f'are {others:,} more faults'}." if others else ""
    raise Problem(
        "bad-list",
        f"Nothing was stored. {reading.faults[0].sentence}{more}",
        places=[fault_json(fault) for fault in reading.faults],
        fault_count=reading.fault_count,
        column=column_name(reading),
        warnings=warnings_json(reading),
    )


def fingerprint(reading: Reading, submission: acceptance.Submission, options: schemas.ListOptions) -> str:
    """Return what makes two requests the same: their IDs and parameters, however the body is wrapped."""
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
    # Left out by default, so that keys from before there was a choice still match.
    if submission.start != Start.NEXT_WINDOW:
        facts.append(submission.start)
    if submission.deadline is not None:
        facts.append(f"deadline {submission.deadline.isoformat()}")
    if submission.max_failed_percent is not None:
        facts.append(f"budget {submission.max_failed_percent} {submission.min_finished}")
    if submission.canary is not None:
        facts.append(f"canary {submission.canary.ids} {submission.canary.min_succeeded_percent}")
    if reading.id_type == "text":
        facts.append("text")
    if submission.data_columns is not None:
        facts.append(f"data {json.dumps(submission.data_columns)}")
    if submission.reference:
        facts.append(f"reference {submission.reference}")
    return hashlib.sha256(orjson.dumps(facts)).hexdigest()


def stored_payload(reading: Reading) -> Any:
    """Return a short payload as it was sent, or the IDs of a short raw list, so that a PUT can send it back."""
    if reading.payload_as_sent is not None:
        return reading.payload_as_sent
    if (
        reading.records is not None
        or not reading.ids_count
        or reading.ids_count + reading.repeats_count > STORED_PAYLOAD_IDS
    ):
        return None
    block = next(reading.ids.unique_blocks(STORED_PAYLOAD_IDS))
    return [str(user) if user >= id_tokens.PAST_JAVASCRIPT else user for user in block]


def column_name(reading: Reading) -> str | None:
    """Return the header of the column that was read, or its number if it has no header."""
    if reading.column is None:
        return None
    return reading.column.name or (str(reading.column.number) if reading.column.number else None)


def stored_column(reading: Reading) -> str:
    """Return the name of the column as the task stores it: up to 200 characters, without zero bytes."""
    return (column_name(reading) or "").replace("\0", "")[:200]


def warnings_json(reading: Reading) -> list[dict[str, Any]]:
    warnings = [
        {"kind": kind, "count": count, "message": f"{WARNINGS[kind]}: {count:,}."}
        for kind, count in sorted(reading.warnings.items())
    ]
    if left_out := reading.columns_left_out:
        message = f"Columns that were not read: {', '.join(left_out)}."
        warnings.append({"kind": "columns_left_out", "count": len(left_out), "message": message})
    return warnings


def accepted_json(
    reading: Reading,
    accepted: acceptance.Accepted,
    canary: stopping.Canary | None = None,
    queue: models.Queue | None = None,
) -> dict[str, Any]:
    """The response to a list. It is made once, and stored for equal requests. queue: of a dry run."""
    task, plan = accepted.task, accepted.plan
    assert plan is not None
    planned_canary = canary and _planned_canary(task.queue if task else queue, plan, canary)
    counted = f"{plan.ids_count:,} {'ID' if plan.ids_count == 1 else 'IDs'}"
    return {
        "message": f"Task {task.pk} has its plan for {counted}."
        if task
        else f"{counted} would be placed as planned.",
        "task_id": task.pk if task else None,
        "task": task_json(task, at=task.created_at) if task else None,
        "repeats": reading.repeats_count,
        "column": column_name(reading),
        "column_number": reading.column.number if reading.column else None,
        "sheet": reading.sheet.name if reading.sheet else None,
        "first_ids": [str(user) for user in reading.ids.first()],
        "last_ids": [str(user) for user in reading.ids.last()],
        "warnings": warnings_json(reading),
        "faults": [fault_json(fault) for fault in reading.faults],
        "fault_count": reading.fault_count,
        "plan": plan_json(plan),
        "canary": planned_canary,
        "same_as": accepted.same_as,
    }


def _planned_canary(queue: models.Queue | None, plan: Plan, canary: stopping.Canary) -> dict[str, Any]:
    assert queue is not None
    count = min(canary.ids, plan.ids_count)
    ends_at = canaries.ends_at(queue, plan, count)
    least = stopping.needed(count, canary.min_succeeded_percent)
    return {"ids": count, "needed": least, "ends_at": iso(ends_at)}


def _preview(reading: Reading, submission: acceptance.Submission) -> HttpResponse:
    at = store.now()
    plan = acceptance.preview(submission, reading.ids_count, at=at)
    queue = models.Queue.objects.filter(name=submission.queue_name).first()
    if queue is None:
        raise errors.NoSuchQueue(name=submission.queue_name)
    duplicate_of = acceptance.find_same_list(queue, reading.ids.same_as_digest, at=at)
    accepted = acceptance.Accepted(None, plan, duplicate_of)
    answer = accepted_json(reading, accepted, submission.canary, queue)
    planned = first_requests.first_requests(queue, plan, first_ids(reading), task_name=submission.task_name)
    return json_response(answer | {"requests": [request_json(request) for request in planned]})


def first_ids(reading: Reading) -> list[first_requests.FirstId]:
    """Return the first IDs of a list with their data."""
    if reading.records is None:
        return [first_requests.FirstId(int(number)) for number in reading.ids.first(first_requests.COUNT)]
    ids, packed = next(reading.records.unique_records(first_requests.COUNT))
    data = [None] * len(ids) if packed is None else [exact_json.read(value.decode()) for value in packed]
    if reading.id_type == "text":
        # Its number is given when the list is accepted.
        return [first_requests.FirstId(-1, text, id_data) for text, id_data in zip(ids, data, strict=True)]
    return [
        first_requests.FirstId(int(number), None, id_data) for number, id_data in zip(ids, data, strict=True)
    ]


def request_json(planned: first_requests.PlannedRequest) -> dict[str, Any]:
    sent = planned.sent
    return {
        "method": sent.method if sent else None,
        "url": sent.url if sent else None,
        "headers": dict(sent.headers) if sent else {},
        "body": sent.body if sent else None,
        "error": planned.error or None,
    }
