"""Token buckets: the clock is an argument."""

from runner.web.limits import REMEMBERED, Known, Rates


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_burst_is_accepted_and_the_next_request_has_to_wait():
    rates = Rates(10, 20, Clock())
    assert [rates.wait("a") for _ in range(20)] == [0] * 20
    assert 0 < rates.wait("a") <= 0.1


def test_rate_limit_is_separate_for_each_client():
    rates = Rates(10, 1, Clock())
    assert rates.wait("a") == 0
    assert rates.wait("a") > 0
    assert rates.wait("b") == 0


def test_steady_rate_is_accepted_forever():
    clock = Clock()
    rates = Rates(100, 100, clock)
    for _ in range(10_000):
        clock.now += 0.0101
        assert rates.wait("a") == 0


def test_zero_means_no_limit():
    rates = Rates(0, 0, Clock())
    assert not any(rates.wait("a") for _ in range(1000))


def test_rate_limits_take_bounded_memory():
    rates = Rates(10, 20, Clock())
    for number in range(REMEMBERED * 2):
        rates.wait(str(number))
    assert len(rates.buckets) == REMEMBERED


def test_known_client_is_forgotten_once_its_token_is_refused_or_many_came_after_it():
    clients = Known()
    clients.add("a")
    clients.add("b")
    assert "a" in clients
    clients.forget("a")
    assert "a" not in clients
    for number in range(REMEMBERED):
        clients.add(str(number))
    assert "b" not in clients
    assert len(clients.clients) == REMEMBERED
