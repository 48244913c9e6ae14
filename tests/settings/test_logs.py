"""What is logged once, and what again and again."""

import json
import subprocess
import sys

import pytest

from settings.place import BASE_DIR

SCRIPT = """
import logging, structlog, time
from settings.logs import configure_logs
configure_logs(level="INFO", form="json")
# Time passes when it is said to.
now = 1000.0
time.monotonic = lambda: now
def sleep(seconds):
    global now
    now += seconds
log = structlog.get_logger("ours")
def full():
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        log.exception("not_written", number=next(numbers))
        logging.getLogger("theirs").error("[Errno 28] No space left on device: '%s'", next(numbers))
def refused():
    logging.getLogger("django.request").error("%s: %s", "Insufficient Storage", "/queues/%s/" % next(numbers))
    log.error("request_finished", code=507, request="POST /queues/%s/" % next(numbers))
def probed():
    log.error("request_finished", code=503, request="GET /healthz/ready", request_id=next(numbers))
    logging.getLogger("django.request").error("%s: %s", "Service Unavailable", "/healthz/ready")
def broken():
    log.error("broken", request_id=next(numbers))
    logging.getLogger("theirs").error("the connection is closed")
def fine():
    log.info("fine")
    log.warning("careful")
numbers = iter(range(1000))
{}
"""


def lines(body: str) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body)], cwd=BASE_DIR, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_full_disk_is_logged_once_a_minute():
    assert len(lines("for _ in range(20): full(); sleep(0.1)")) == 1


@pytest.mark.parametrize("event", ["refused", "probed"])
def test_refusals_of_a_full_disk_and_of_probes_are_logged_once_a_minute(event):
    assert len(lines(f"for _ in range(15): {event}(); sleep(0.1)")) == 1


def test_same_error_is_logged_once_a_second():
    result = lines("for _ in range(15): broken(); sleep(0.1)")
    assert 2 <= sum(line["event"] == "broken" for line in result) <= 3
    assert 2 <= sum(line["event"] == "the connection is closed" for line in result) <= 3


@pytest.mark.parametrize("event", ["fine", "careful"])
def test_other_errors_are_logged_each_time(event):
    assert sum(line["event"] == event for line in lines("for _ in range(5): fine()")) == 5
