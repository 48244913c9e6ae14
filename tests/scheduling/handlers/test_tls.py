"""Certificates are always verified, and what is wrong with TLS is said in words."""

import asyncio
import ipaddress
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
import trustme
import uvloop

from scheduling.core.retry import Verdict
from scheduling.handlers import factory, lookup
from scheduling.handlers.base import Request
from scheduling.handlers.webhook import Webhook
from scheduling.models import Queue
from tests.scheduling.name_server import NameServer
from tests.scheduling.target import Target

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def server_context(authority: trustme.CA, *names: str, **options) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def call(url: str, *, requests: int = 1, runner=uvloop.run, **options):
    async def run():
        handler = Webhook(url, allowed=LOOPBACK, **options)
        outcomes = []
        for user in range(1, requests + 1):
            at = datetime(2026, 11, 25, 12, 17, tzinfo=UTC)
            outcomes += await handler.handle([Request(user, 7, "a list", "q", at, 1)])
        await handler.close()
        return outcomes

    return runner(run())


@pytest.fixture
def sources(tmp_path):
    lookup._cache.clear()
    with NameServer({"hook.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}) as server:
        yield server.sources(tmp_path)


@pytest.mark.parametrize("runner", [uvloop.run, asyncio.run])
def test_certificate_of_a_private_authority_is_accepted_and_its_connection_kept(
    authority, ca_file, sources, runner
):
    with Target(tls=server_context(authority, "hook.test")) as target:
        url = f"https://hook.test:{target.port}/"
        outcomes = call(url, requests=3, ca_file=ca_file, sources=sources, runner=runner)
    assert [outcome.status for outcome in outcomes] == [200] * 3
    assert target.connections == 1


def test_setting_names_the_file_of_a_private_authority(authority, ca_file, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS, settings.WEBHOOK_CA_FILE = LOOPBACK, ca_file
    with Target(tls=server_context(authority, "127.0.0.1")) as target:
        queue = Queue(name="q", handler="webhook", webhook_url=f"https://127.0.0.1:{target.port}/")

        async def run():
            handler = factory.make_handler(queue)
            at = datetime(2026, 11, 25, 12, 17, tzinfo=UTC)
            [outcome] = await handler.handle([Request(1, 7, "a list", "q", at, 1)])
            await handler.close()
            return outcome

        assert uvloop.run(run()).status == 200


def test_certificate_of_an_address_is_verified(authority, ca_file):
    with Target(tls=server_context(authority, "127.0.0.1")) as target:
        assert call(f"https://127.0.0.1:{target.port}/", ca_file=ca_file)[0].status == 200


@pytest.mark.parametrize(
    ("host", "options", "words"),
    [
        ("other.test", {}, "Hostname mismatch"),
        ("hook.test", {"not_after": datetime.now(UTC) - timedelta(days=1)}, "certificate has expired"),
    ],
)
def test_certificate_that_does_not_fit_is_refused(authority, ca_file, sources, host, options, words):
    with Target(tls=server_context(authority, "hook.test", **options)) as target:
        [outcome] = call(f"https://{host}:{target.port}/", ca_file=ca_file, sources=sources)
    assert (outcome.verdict, target.requests) == (Verdict.RETRY, [])
    assert outcome.error.startswith("the certificate of the target is not valid: ")
    assert words in outcome.error


def test_certificate_of_an_unknown_authority_is_refused(authority, sources):
    with Target(tls=server_context(authority, "hook.test")) as target:
        [outcome] = call(f"https://hook.test:{target.port}/", sources=sources)
    assert outcome.error.startswith("the certificate of the target is not valid: ")
    assert target.requests == []


@contextmanager
def refusing(context: ssl.SSLContext):
    """A server that ends each handshake with the alert that it is due (asyncio's servers send none)."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with suppress(OSError):
                while True:
                    plain, _ = listening.accept()
                    with suppress(OSError), context.wrap_socket(plain, server_side=True) as wrapped:
                        wrapped.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(120)


@pytest.mark.parametrize("runner", [uvloop.run, asyncio.run])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_target_that_requires_a_client_certificate_is_named(authority, ca_file, sources, version, runner):
    context = server_context(authority, "hook.test")
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    context.load_verify_locations(ca_file)
    with refusing(context) as port:
        [outcome] = call(f"https://hook.test:{port}/", ca_file=ca_file, sources=sources, runner=runner)
    assert outcome.verdict == Verdict.RETRY
    assert "client certificate" in outcome.error


def test_time_out_names_the_tls_handshake():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        [outcome] = call(f"https://127.0.0.1:{silent.getsockname()[1]}/", connect_seconds=1)
    assert outcome.error == "timed out after 1 s during the TLS handshake"


def test_time_out_names_the_connection():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        [outcome] = call(f"http://127.0.0.1:{full.getsockname()[1]}/", connect_seconds=0.3)
        for filler in fillers:
            filler.close()
    assert outcome.error == "timed out after 0.3 s while connecting"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_wrong_protocol_is_explained_in_the_error(authority, scheme):
    tls = server_context(authority, "127.0.0.1") if scheme == "http" else None
    with Target(tls=tls) as target:
        [outcome] = call(f"{scheme}://127.0.0.1:{target.port}/", connect_seconds=30, read_seconds=30)
    assert outcome.verdict == Verdict.RETRY
    assert outcome.error in {
        "the connection was closed instead of a response",
        "the connection was closed during the TLS handshake",
        "the TLS handshake failed: wrong version number",
        "the TLS handshake failed: record layer failure",
        "the response is not HTTP",
    }
