"""The work of the clusters: armed minutes, quarter-hour runs, heartbeats."""

from django.db import models

from .fields import RowIdField


class Minute(models.Model):
    """One armed minute, all queues together. `id` is minutes since 1970."""

    id = RowIdField()
    armed_at = models.DateTimeField()
    seats = models.PositiveSmallIntegerField()
    # When its first worker began, when a worker last reported, and when another worker was queued.
    started_at = models.DateTimeField(null=True, blank=True)
    seen_at = models.DateTimeField(null=True, blank=True)
    called_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)


class QuarterRun(models.Model):
    """One run of the quarter-hour processing. `quarter_at` is the quarter-hour that had just begun."""

    quarter_at = models.DateTimeField(unique=True)
    ran_at = models.DateTimeField()
    totalled_count = models.PositiveIntegerField(default=0)
    placed_again_count = models.PositiveIntegerField(default=0)


class Heartbeat(models.Model):
    """The heartbeat of a cluster. The owner is a random number drawn after fork, never host and PID."""

    owner = models.BigIntegerField(unique=True)
    cluster = models.CharField(max_length=50)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    workers = models.PositiveSmallIntegerField(default=0)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)
    # How far the host's clock is ahead of the database's (behind it is negative), and how far away that is.
    clock_offset_ms = models.IntegerField(null=True, blank=True)
    round_trip_ms = models.PositiveIntegerField(null=True, blank=True)
    # When it last met a job that was signed with another SECRET_KEY.
    foreign_job_at = models.DateTimeField(null=True, blank=True)
    # The disks that it writes to: name, free and total bytes of each.
    disks = models.JSONField(null=True, blank=True)
