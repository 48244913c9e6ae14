"""Names are looked up without threads: a silent name server delays only its own target."""

import asyncio
import ipaddress
import socket
import threading
from datetime import UTC, datetime

import pytest
import uvloop

from scheduling.core.retry import Verdict
from scheduling.handlers import lookup
from scheduling.handlers.base import Request
from scheduling.handlers.webhook import Webhook
from tests.scheduling.name_server import NO_ADDRESS, REFUSED, SILENT, NameServer
from tests.scheduling.target import Target

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]


@pytest.fixture(autouse=True)
def empty_cache():
    lookup._cache.clear()


def request(user_id: int = 1) -> Request:
    return Request(user_id, 7, "a list", "q", datetime(2026, 11, 25, 12, 17, tzinfo=UTC), 1)


def resolve(host: str, sources) -> list[str]:
    return [str(address) for address in uvloop.run(lookup.resolve(host, sources))[0]]


def test_resolve_finds_both_families(tmp_path, monkeypatch):
    monkeypatch.setattr(lookup, "_OTHER_FAMILY_SECONDS", 60.0)
    with NameServer({"hook.test": ["127.0.0.1", "::1", "127.0.0.2"]}) as server:
        assert sorted(resolve("hook.test", server.sources(tmp_path))) == ["127.0.0.1", "127.0.0.2", "::1"]


def test_resolve_reads_the_hosts_file_first_and_sees_its_changes(tmp_path):
    with NameServer({"hook.test": ["127.0.0.1"]}) as server:
        assert resolve("hook.test", server.sources(tmp_path, {"Hook.test": "127.0.0.9"})) == ["127.0.0.9"]
        assert not server.questions
        assert resolve("hook.test", server.sources(tmp_path, {"other.test": "127.0.0.10"})) == ["127.0.0.1"]


def test_resolve_adds_the_search_domain_to_short_names(tmp_path):
    with NameServer({"hook.internal.test": ["127.0.0.3"]}) as server:
        assert resolve("hook", server.sources(tmp_path)) == ["127.0.0.3"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({}, "hook.test has no address in the DNS"),
        ({"hook.test": NO_ADDRESS}, "hook.test has no address in the DNS"),
        ({"hook.test": REFUSED}, "the look-up of hook.test failed: .*REFUSED"),
    ],
)
def test_resolve_says_why_a_name_has_no_address(tmp_path, names, words):
    with NameServer(names) as server, pytest.raises(lookup.LookupFailed, match=words):
        resolve("hook.test", server.sources(tmp_path))


def test_resolve_does_not_wait_for_a_family_that_gets_no_reply(tmp_path):
    with NameServer({"hook.test": ["127.0.0.1"]}, silent_types=frozenset({"AAAA"})) as server:
        # The silent one is given up after a minute.
        look_up = asyncio.wait_for(lookup.resolve("hook.test", server.sources(tmp_path)), 50)
        addresses, _ = uvloop.run(look_up)
    assert [str(address) for address in addresses] == ["127.0.0.1"]


def test_resolve_without_a_name_server_fails_at_once(tmp_path):
    (tmp_path / "resolv.conf").write_text("")
    sources = lookup.Sources(str(tmp_path / "hosts"), str(tmp_path / "resolv.conf"))
    with pytest.raises(lookup.LookupFailed):
        resolve("hook.test", sources)


def test_silent_name_server_delays_no_other_queue(tmp_path):
    # One name gets no reply; 50 calls wait for it. Beside them a healthy name and an address are called, and answered
    # before those give up.
    threads_before = threading.active_count()

    async def run(server: NameServer, target: Target):
        sources = server.sources(tmp_path)
        slow, good, address = (
            Webhook(f"http://{host}:{target.port}/", allowed=LOOPBACK, connect_seconds=30, sources=sources)
            for host in ("slow.test", "good.test", "127.0.0.1")
        )
        waiting = [asyncio.ensure_future(slow.handle([request(user)])) for user in range(1, 51)]
        await asyncio.sleep(0.05)
        outcomes = []
        for user in range(1, 31):
            for handler in (good, address):
                outcomes += await handler.handle([request(user)])
        threads = threading.active_count()
        waiting_count = sum(not call.done() for call in waiting)
        for call in waiting:
            call.cancel()
        for handler in (slow, good, address):
            await handler.close()
        return outcomes, waiting_count, threads

    with NameServer({"slow.test": SILENT, "good.test": ["127.0.0.1"]}) as server, Target() as target:
        outcomes, waiting_count, threads = uvloop.run(run(server, target))
    assert {outcome.verdict for outcome in outcomes} == {Verdict.SUCCEEDED}
    assert waiting_count == 50
    # The 50 calls shared one look-up, which asks again each second and a half; none needed a thread (the server's and
    # the target's are the test's).
    assert len([name for name, kind in server.questions if name == "slow.test" and kind == "A"]) < 50
    assert threads <= threads_before + 2


def test_time_out_names_the_look_up(tmp_path):
    with NameServer({"slow.test": SILENT}) as server:
        handler = Webhook(
            "http://slow.test/", allowed=LOOPBACK, connect_seconds=1, sources=server.sources(tmp_path)
        )
        [outcome] = uvloop.run(handler.handle([request()]))
    assert outcome.error == "timed out after 1 s during the look-up of the host name"


def test_look_up_ends_with_the_last_call_that_waits_for_it(tmp_path):
    async def run(server: NameServer):
        handler = Webhook("http://slow.test/", connect_seconds=120, sources=server.sources(tmp_path))
        waiting = [asyncio.ensure_future(handler.handle([request(user)])) for user in (1, 2)]
        await until_there_are(1)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        await asyncio.sleep(0.01)
        assert _look_ups() == 1
        waiting[1].cancel()
        await until_there_are(0)
        await handler.close()

    async def until_there_are(count: int) -> None:
        async with asyncio.timeout(60):
            while _look_ups() != count:
                await asyncio.sleep(0.01)

    def _look_ups():
        return sum(task.get_coro().__name__ == "_fetch_addresses" for task in asyncio.all_tasks())

    with NameServer({"slow.test": SILENT}) as server:
        uvloop.run(run(server))


def call(
    *, sources, port: int, requests: int = 1, host: str = "hook.test", allowed=LOOPBACK, apart: float = 0
):
    async def run():
        outcomes = []
        for user in range(1, requests + 1):
            # A handler for each, as in minutes that follow each other.
            handler = Webhook(f"http://{host}:{port}/", allowed=allowed, sources=sources)
            outcomes += await handler.handle([request(user)])
            await handler.close()
            await asyncio.sleep(apart)
        return outcomes

    return uvloop.run(run())


def test_accepted_addresses_are_kept_for_a_short_time(tmp_path, monkeypatch):
    with NameServer({"hook.test": ["127.0.0.1"]}) as server, Target() as target:
        sources = server.sources(tmp_path)
        assert {item.status for item in call(sources=sources, port=target.port, requests=20)} == {200}
        assert server.questions.count(("hook.test", "A")) == 1
        monkeypatch.setattr(lookup, "CACHE_SECONDS", 0.05)
        lookup._cache.clear()
        call(sources=sources, port=target.port, requests=3, apart=0.06)
    assert server.questions.count(("hook.test", "A")) == 4


def test_kept_addresses_are_checked_against_the_networks_of_each_call(tmp_path):
    with NameServer({"hook.test": ["127.0.0.1"]}) as server, Target() as target:
        sources = server.sources(tmp_path)
        assert call(sources=sources, port=target.port)[0].status == 200
        [refused] = call(sources=sources, port=target.port, allowed=())
    assert refused.verdict == Verdict.FAILED
    assert refused.error.startswith("address not allowed: 127.0.0.1")
    assert target.connections == 1


def test_rebinding_reaches_no_internal_address(tmp_path):
    # The name alternates between an address that is allowed and one that isn't; 127.0.0.2 stands for internal.
    allowed = [ipaddress.ip_network("127.0.0.1/32")]
    reached = []
    with NameServer({}) as server, Target() as target:
        sources = server.sources(tmp_path)
        for round_ in range(20):
            lookup._cache.clear()
            answers = (["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.1", "::1"])
            server.names["hook.test"] = answers[round_ % 4]
            [outcome] = call(sources=sources, port=target.port, allowed=allowed)
            reached.append(outcome.status == 200)
    assert reached == [True, False, False, False] * 5
    assert target.connections == 5


def test_dead_address_beside_a_working_one_succeeds(tmp_path):
    # Nothing listens at [::1], nor at 127.0.0.3: the target has 127.0.0.1 alone.
    with NameServer({"hook.test": ["::1", "127.0.0.3", "127.0.0.1"]}) as server, Target() as target:
        outcomes = call(sources=server.sources(tmp_path), port=target.port, requests=5)
    assert [outcome.status for outcome in outcomes] == [200] * 5
    assert max(outcome.duration_ms for outcome in outcomes) < 1_000


def test_address_that_does_not_reply_is_not_waited_for(tmp_path):
    with socket.socket(socket.AF_INET6) as full, Target() as target:
        full.bind(("::1", target.port))
        full.listen(0)
        # With its backlog full, connecting to it hangs.
        fillers = [socket.socket(socket.AF_INET6) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("::1", target.port))
        with NameServer({"hook.test": ["::1", "127.0.0.1"]}) as server:
            [outcome] = call(sources=server.sources(tmp_path), port=target.port)
        for filler in fillers:
            filler.close()
    assert outcome.status == 200
    assert 200 < outcome.duration_ms < 2_000


def test_addresses_that_all_fail_are_named(tmp_path):
    with Target() as target:
        port = target.port
    with NameServer({"hook.test": ["::1", "127.0.0.3"]}) as server:
        [outcome] = call(sources=server.sources(tmp_path), port=port)
    assert outcome.verdict == Verdict.RETRY
    assert outcome.error == (
        f"could not connect: ::1 port {port}: Connection refused; 127.0.0.3 port {port}: Connection refused"
    )
