"""Receipts as a signed file, and the key that checks it."""

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Query, Router

from api import schemas
from api.auth import CAN_READ, ApiRequest
from api.endpoints import read_only, responses
from api.openapi import describe
from api.problems import bad_parameter, problem_response
from scheduling import store
from scheduling.core.errors import BadFields, NoSuchQueue, SigningKeyUnreadable
from scheduling.reports import receipt_files

router = Router(tags=["Windows"])


@router.get(
    "/receipts/",
    auth=CAN_READ,
    response=responses(None),
    operation_id="export_receipts",
    summary="Receipts as a signed file",
    openapi_extra=describe(media=[receipt_files.MEDIA_TYPE]),
)
def export_receipts(
    request: ApiRequest, filters: Query[schemas.ReceiptFilter]
) -> HttpResponse | StreamingHttpResponse:
    """The file states the largest number of requests in any 60 seconds of a period, and contains the proof.

    docs/receipts.md describes the lines, and how to check them. `/receipts/key/` returns the public key as PEM, and
    needs no token.
    """
    at = store.now()
    try:
        names = [] if filters.queue is None else filters.queue.split(",")
        queues = receipt_files.chosen_queues(names, target=filters.target)
        receipt_files.check_range(filters.since, filters.until, at=at)
        lines = receipt_files.write(queues, filters.since, filters.until, at=at)
    except NoSuchQueue as error:
        raise bad_parameter("queue", str(error)) from None
    except BadFields as error:
        raise bad_parameter(*next(iter(error.reasons.items()))) from None
    response = StreamingHttpResponse(lines, content_type=receipt_files.MEDIA_TYPE)
    response["Content-Disposition"] = f'attachment; filename="{receipt_files.FILE_NAME}"'
    return response


@read_only
def public_key(request: HttpRequest) -> HttpResponse:
    """Return the public key that checks this installation's files. Those who are handed one have no token."""
    try:
        return HttpResponse(receipt_files.public_key(), content_type="application/x-pem-file")
    except SigningKeyUnreadable as error:
        return problem_response("not-ready", str(error))
