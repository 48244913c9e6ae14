from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.core import retry
from scheduling.core.retry import Breaker, Verdict

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def after(seconds):
    return NOON + timedelta(seconds=seconds)


# What an answer means


@pytest.mark.parametrize("status", [200, 201, 202, 204, 205, 206, 299])
@pytest.mark.parametrize("error", [None, "the body was cut after 3 of 10 bytes"])
def test_every_2xx_is_a_success_whatever_the_body(status, error):
    assert retry.verdict(status, error) is Verdict.SUCCEEDED


@pytest.mark.parametrize(
    "status", [301, 302, 303, 307, 308, 401, 403, 407, 408, 425, 429, 500, 502, 503, 504, 507, 599]
)
def test_temporary_status_is_retried(status):
    assert retry.verdict(status, None) is Verdict.RETRY


@pytest.mark.parametrize(
    "status",
    [100, 101, 103, 300, 304, 400, 404, 409, 410, 422, 451, 600, 0],
)
def test_permanent_status_fails_at_once(status):
    assert retry.verdict(status, None) is Verdict.FAILED


@pytest.mark.parametrize("error", ["connection refused", "timed out", "name not found", ""])
def test_attempt_without_a_response_is_retried(error):
    assert retry.verdict(None, error) is Verdict.RETRY


def test_refused_address_fails_at_once():
    assert retry.verdict(None, retry.ADDRESS_NOT_ALLOWED) is Verdict.FAILED
    assert retry.verdict(None, "address not allowed: 169.254.169.254") is Verdict.FAILED


def test_verdict_requires_a_status_or_an_error():
    with pytest.raises(ValueError, match="a status or an error"):
        retry.verdict(None, None)


# When it is due again


def test_retry_delay_doubles_from_one_minute():
    delays = [retry.due_at(NOON, attempts=attempts, random=0) - NOON for attempts in range(1, 7)]
    assert delays == [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 16, 32)]


@given(st.integers(1, 13), st.floats(0, 1, exclude_max=True))
def test_jitter_delays_by_a_few_seconds_at_most(attempts, random):
    late = retry.due_at(NOON, attempts=attempts, random=random) - retry.due_at(
        NOON, attempts=attempts, random=0
    )
    assert timedelta(0) <= late <= timedelta(seconds=retry.JITTER_SECONDS)


@pytest.mark.parametrize("attempts", [6, 7, 100, 10**9])
def test_last_retry_delay_repeats(attempts):
    assert retry.due_at(NOON, attempts=attempts, random=0) == NOON + timedelta(minutes=32)


def test_delays_of_a_queue_decide_when_a_retry_is_due():
    due = [retry.due_at(NOON, attempts=n, random=0, delays=[5, 1]) - NOON for n in (1, 2, 3)]
    assert due == [timedelta(minutes=5), timedelta(minutes=1), timedelta(minutes=1)]


def test_retry_is_not_due_while_its_target_is_blocked():
    assert retry.due_at(NOON, attempts=1, random=0, not_before=after(3_600)) == after(3_600)
    assert retry.due_at(NOON, attempts=1, random=0, not_before=after(20)) == after(60)


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"random": 1}, {"random": -0.1}, {"random": float("nan")}]
)
def test_invalid_attempts_and_randomness_are_refused(wrong):
    with pytest.raises(ValueError, match="attempts must be"):
        retry.due_at(NOON, **{"attempts": 1, "random": 0} | wrong)


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("20", 20),
        (" 20\t", 20),
        ("0", 0),
        ("1.5", 1.5),
        ("-5", 0),
        ("3600", 3600),
        ("86400", 3600),
        ("9" * 5_000, 3600),
        ("-" + "9" * 5_000, 0),
        ("Wed, 25 Nov 2026 12:00:30 GMT", 30),
        ("Wed, 25 Nov 2026 13:00:30 +0100", 30),
        ("Wednesday, 25-Nov-26 12:00:30 GMT", 30),
        ("Wed Nov 25 12:00:30 2026", 30),
        ("Wed, 25 Nov 2026 11:59:30 GMT", 0),
        ("Thu, 26 Nov 2026 12:00:00 GMT", 3600),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_up_to_an_hour(value, seconds):
    assert retry.retry_after_seconds(429, value, at=NOON) == seconds
    assert retry.retry_after_seconds(503, value, at=NOON) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "120 seconds",
        "20, 30",
        "+20",
        "1e3",
        "nan",
        "inf",
        "0x10",
        "\uff11\uff12",
        "\u00b2",
        "2026-11-25T12:00:30Z",
        "Wed, 31 Feb 2026 12:00:00 GMT",
        "Wed, 25 Nov 99999 12:00:00 GMT",
        "Wed, 25 Nov 2026 12:00:30 GMT" + " " * 100 + ".",
    ],
)
def test_malformed_retry_after_counts_as_absent(value):
    assert retry.retry_after_seconds(429, value, at=NOON) is None


@pytest.mark.parametrize("status", [None, 200, 301, 408, 413, 500, 502])
def test_retry_after_counts_with_429_and_503_only(status):
    assert retry.retry_after_seconds(status, "20", at=NOON) is None


@given(st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, [0-9]{1,5} [A-Z][a-z]{2} [0-9]{1,6} [0-9:+\- ]{1,20}\Z"))
def test_retry_after_of_any_content_is_seconds_up_to_an_hour_or_none(value):
    seconds = retry.retry_after_seconds(503, value, at=NOON)
    assert seconds is None or 0 <= seconds <= 3_600


@given(st.integers(-5_000, 5_000))
def test_retry_after_reads_every_date_that_python_writes(seconds):
    value = format_datetime(after(seconds), usegmt=True)
    assert retry.retry_after_seconds(503, value, at=NOON) == min(max(0, seconds), 3_600)


# The breaker


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        *((status, True) for status in (301, 302, 303, 307, 308, 401, 403, 407, 408, 425, 429, 500, 503)),
        *((status, False) for status in (103, 200, 300, 304, 400, 404)),
    ],
)
def test_failures_that_are_retried_count_for_the_breaker(status, counts):
    assert (retry.verdict(status, None) is Verdict.RETRY) is counts


def opened(at=NOON, threshold=3):
    breaker = Breaker()
    for _ in range(threshold):
        assert not breaker.is_open
        breaker = breaker.on_failure(at - timedelta(seconds=1), at=at, threshold=threshold)
    assert breaker.is_open
    return breaker


def test_breaker_opens_exactly_at_its_threshold():
    assert opened() == Breaker(3, opened_at=NOON)


def test_success_restarts_the_count_of_failures():
    breaker = Breaker(2).on_success(NOON)
    assert breaker == Breaker()
    assert not breaker.on_failure(NOON, at=after(1), threshold=3).is_open


def test_breaker_without_a_threshold_never_opens():
    assert Breaker(10**6).on_failure(NOON, at=NOON, threshold=None) == Breaker(10**6 + 1)


def test_breaker_allows_a_probe_every_half_minute():
    breaker = opened()
    assert not breaker.may_probe(after(29.999))
    assert breaker.may_probe(after(30))
    probing = breaker.probing(after(40))
    assert probing.next_probe_at == after(70)
    assert not probing.may_probe(after(69.999))
    assert probing.may_probe(after(70))
    with pytest.raises(ValueError, match="no probe"):
        probing.probing(after(69))


def test_closed_breaker_needs_no_probe():
    assert Breaker(2).next_probe_at is None
    assert not Breaker(2).may_probe(NOON)


def test_successful_probe_closes_the_breaker():
    assert opened().probing(after(30)).on_success(after(30.1)) == Breaker()


def test_failed_probe_delays_the_next_by_half_a_minute_from_its_start():
    probing = opened().probing(after(30))
    assert probing.on_failure(after(29.9), at=after(38), threshold=3) == probing
    # It was let out at 30, and had its slot somewhat later.
    assert probing.on_failure(after(30.9), at=after(38), threshold=3).next_probe_at == after(60.9)
    assert probing.after(Verdict.FAILED, started_at=after(30.9), at=after(38), threshold=3).is_open
    assert not probing.after(Verdict.FAILED, started_at=after(30.9), at=after(38), threshold=3).may_probe(
        after(60)
    )


@pytest.mark.parametrize("breaker", [opened(), opened().probing(after(30))], ids=["open", "probing"])
@pytest.mark.parametrize("started_at", [after(-8), NOON])
def test_answers_to_older_requests_do_not_change_an_open_breaker(breaker, started_at):
    assert breaker.on_success(started_at) == breaker
    assert breaker.on_failure(started_at, at=after(31), threshold=3) == breaker


def test_success_before_the_first_probe_does_not_close_the_breaker():
    # Another worker that had not seen the opening yet.
    assert opened().on_success(after(0.2)).is_open


def test_probe_by_a_slightly_slow_clock_still_closes_the_breaker():
    assert opened().probing(after(30)).on_success(after(29.8)) == Breaker()


def test_closed_breaker_counts_failures_from_zero():
    breaker = opened().probing(after(30)).on_success(after(30))
    assert breaker.on_failure(after(31), at=after(31), threshold=3) == Breaker(1)


def test_breaker_counts_outcomes_by_their_verdict():
    def after_result(breaker, status, error=None):
        return breaker.after(retry.verdict(status, error), started_at=after(1), at=after(2), threshold=3)

    assert after_result(Breaker(2), 503) == Breaker(3, opened_at=after(2))
    assert after_result(Breaker(2), 308) == Breaker(3, opened_at=after(2))
    assert after_result(Breaker(2), None, "timed out") == Breaker(3, opened_at=after(2))
    assert after_result(Breaker(2), 204) == Breaker()
    assert after_result(Breaker(2), 404) == Breaker(2)
    assert after_result(Breaker(2), None, retry.ADDRESS_NOT_ALLOWED) == Breaker(2)


outcomes = st.sampled_from(
    [(200, None), (404, None), (429, None), (500, None), (308, None), (None, "timed out")]
)


pauses, slots, durations = st.floats(0, 20), st.floats(0, 1), st.floats(0, 25)


@given(st.lists(st.tuples(pauses, slots, durations, outcomes), max_size=150), st.integers(1, 5))
def test_probes_of_an_open_breaker_are_half_a_minute_apart(requests, threshold):
    breaker, now, last_start, under_way = Breaker(), 0.0, None, []
    for pause, slot, duration, outcome in requests:
        now += pause
        for answered, started, (status, error) in sorted(under_way, key=lambda item: item[0]):
            if answered > now:
                continue
            before, times = breaker, {"started_at": after(started), "at": after(answered)}
            breaker = breaker.after(retry.verdict(status, error), **times, threshold=threshold)
            # Nothing but the last probe's own success closes it.
            if before.is_open and not breaker.is_open:
                assert after(started - 1) <= before.probe_at <= after(started)
                assert status == 200
            if breaker.is_open and not before.is_open:
                last_start = answered
        under_way = [item for item in under_way if item[0] > now]
        started = now
        if breaker.is_open:
            if not breaker.may_probe(after(now)):
                continue
            breaker = breaker.probing(after(now))
            # It waits for a slot of the plan.
            started = now + slot
            assert started - last_start >= 29.999
            last_start = started
        under_way.append((started + duration, started, outcome))
