"""Checks everything that the docs ask of a deployment: a line for each thing, with what to do."""

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core import checks
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from scheduling import models, store
from scheduling.core import limits
from scheduling.jobqueue import cluster, host_watch, schedules
from scheduling.queues import secrets_at_rest
from scheduling.reports import health, hosts
from scheduling.store import schema

TLS_SECONDS = 5
CERTIFICATE_DAYS = 14
# What one machine with web and both clusters uses at most: see docs/deployment.md.
WEB_PROCESSES, WEB_EXTRA, CLUSTER_EXTRA = 2, 5, 3


@dataclass(frozen=True)
class Finding:
    """advice: what to do; empty where all is well."""

    subject: str
    text: str
    advice: str = ""


class Command(BaseCommand):
    help = "Check clocks, connections, migrations, static files, disks, schedules, clusters and targets."

    def handle(self, **options: object) -> None:
        findings = list(examine())
        for finding in findings:
            mark = "!!" if finding.advice else "ok"
            self.stdout.write(
                f"{mark}  {finding.subject}: {finding.text}{f' {finding.advice}' if finding.advice else ''}"
            )
        problems = sum(bool(finding.advice) for finding in findings)
        if problems:
            raise CommandError(f"{problems} of {len(findings)} need attention.", returncode=1)


def examine() -> Iterator[Finding]:
    try:
        at, apart = store.now(), health.clocks_apart()
    except DatabaseError as error:
        yield Finding("database", f"{error}".strip(), "Is it running, and is DATABASE_URL right?")
        return
    yield Finding("database", f"{connection.vendor} answers.")
    yield from _system_checks()
    yield from _schema()
    yield _clock(apart)
    yield from _distance()
    if connection.vendor == "postgresql":
        yield _connections()
    yield _static_files()
    for volume in health.disks():
        text = f"{volume.free_bytes / 1e9:,.1f} GB are free."
        yield Finding(f"disk of {volume.name}", text, "Make room." if volume.is_low else "")
    missing = schedules.missing()
    text = f"missing: {', '.join(missing)}." if missing else "all are there."
    yield Finding("schedules", text, "Run: python -m runner prepare" if missing else "")
    unreadable = cluster.unreadable_count()
    advice = "Do all hosts have the same SECRET_KEY?" if unreadable else ""
    yield Finding("queued jobs", f"{unreadable} of the latest can't be read.", advice)
    yield _secrets()
    for name in health.CLUSTERS:
        state = health.cluster_health(name, at)
        text = f"{state.alive_count} alive, {state.silent_count} silent."
        advice = "" if state.alive_count and not state.silent_count else f"Start: python -m runner {name}"
        yield Finding(f"cluster {name}", text, advice)
    yield from _certificates()


def _system_checks() -> Iterator[Finding]:
    messages = [item for item in checks.run_checks(databases=["default"]) if item.level >= checks.WARNING]
    for message in messages:
        yield Finding(f"settings ({message.id})", message.msg, message.hint or "See docs/deployment.md.")
    if not messages:
        yield Finding("settings", "no check complains.")


def _schema() -> Iterator[Finding]:
    state = schema.read()
    if state.missing:
        yield Finding(
            "tables", f"{len(state.missing)} migrations are missing.", "Run: python -m runner prepare"
        )
    elif state.newer:
        text = f"they are newer than this code: {', '.join(state.newer)}."
        yield Finding("tables", text, "Update the code of this host.")
    else:
        yield Finding("tables", "they are those of this version.")


def _clock(apart: float) -> Finding:
    is_off = apart > limits.CLOCK_OFFSET_REPORTED.total_seconds()
    advice = "Is chrony or NTP running on this host and on the database's?" if is_off else ""
    return Finding("clock", f"{apart * 1000:.0f} ms from the database's.", advice)


def _distance() -> Iterator[Finding]:
    """How far the database is from this host, and what the clusters say of theirs."""
    round_trip = min(host_watch.read().round_trip for _ in range(host_watch.READINGS))
    is_far = round_trip >= limits.ROUND_TRIP_REPORTED
    text = f"{round_trip.total_seconds() * 1000:.0f} ms to the database and back."
    yield Finding("distance", text, "Run `minutes` nearer to the database." if is_far else "")
    at = store.now()
    for problem in hosts.problems(hosts.reports(at), at, hosts.unreached(at)):
        yield Finding("hosts", problem, "See docs/deployment.md, on several hosts.")


def _secrets() -> Finding:
    """Look at all secrets: whether they can be read here, and are encrypted."""
    state = secrets_at_rest.state()
    if state.unreadable:
        names = ", ".join(state.unreadable)
        advice = "Add the earlier key to SECRET_KEY_FALLBACKS, or enter them again."
        return Finding("secrets", f"this host's keys don't decrypt those of {names}.", advice)
    if state.plain:
        advice = "Once no host runs an earlier release, run: manage.py reencrypt"
        return Finding("secrets", f"those of {', '.join(state.plain)} are stored as plain text.", advice)
    return Finding("secrets", "all are encrypted, and can be read here.")


def _connections() -> Finding:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        )
        allowed, used = cursor.fetchone()
    workers = settings.Q_CLUSTER["workers"] + settings.Q_CLUSTER["ALT_CLUSTERS"]["minutes"]["workers"]
    needed = WEB_PROCESSES * (settings.WEB_THREADS + WEB_EXTRA) + workers + 2 * CLUSTER_EXTRA
    text = f"{used} of {allowed} are in use; a machine with everything takes up to {needed}."
    is_tight = allowed < needed or used > 0.9 * allowed
    return Finding("connections", text, "Raise max_connections, or use a pooler." if is_tight else "")


def _static_files() -> Finding:
    files = getattr(staticfiles_storage, "hashed_files", None)
    if files is None:
        return Finding("static files", "served as they are (not in production settings).")
    advice = "" if files else "Run: python -m runner prepare, on each web host"
    return Finding("static files", f"{len(files)} are collected on this host.", advice)


def _certificates() -> Iterator[Finding]:
    """Look at the certificate of each host that webhooks go to by HTTPS."""
    urls = models.Queue.objects.exclude(webhook_url="").values_list("webhook_url", flat=True)
    hosts = {
        (parts.hostname or "", parts.port or 443)
        for url in urls
        if (parts := urlsplit(url)).scheme == "https"
    }
    for host, port in sorted(hosts):
        try:
            with (
                socket.create_connection((host, port), timeout=TLS_SECONDS) as plain,
                ssl.create_default_context().wrap_socket(plain, server_hostname=host) as encrypted,
            ):
                ends = str((encrypted.getpeercert() or {}).get("notAfter"))
        except OSError as error:
            yield Finding(
                f"target {host}", f"{error}.", "Can this host reach it, and is its certificate valid?"
            )
            continue
        days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86_400
        advice = "It has to be renewed." if days < CERTIFICATE_DAYS else ""
        yield Finding(f"target {host}", f"its certificate is valid for {days:.0f} days.", advice)
