"""The random part that distinguishes this installation, and the history of its database, from all others."""

import secrets

from django.db import models


def draw_key_part() -> str:
    return secrets.token_hex(6)


class Installation(models.Model):
    """One row: the random part of every `webhook-id`.

    Without it staging and production, or a database and its restored backup, would give the same key to different
    work, and a receiver that discards what it has seen would lose requests.
    """

    key_part = models.CharField(max_length=16, default=draw_key_part)
    # Tasks up to this number are older than the part: their keys have none, so that none changes between attempts.
    last_task_without_part = models.BigIntegerField(default=0)
    # The last number that stands for an ID that is text: they go from -1 down.
    last_external_number = models.BigIntegerField(default=0, db_default=0)
    # The private key that signs files of receipts, encrypted; empty until the first file is made.
    signing_key = models.CharField(max_length=200, blank=True, default="", db_default="")
    # When somebody last began to look at the conditions of alerts.
    alerts_looked_at = models.DateTimeField(null=True, blank=True)

    # Whether secrets of queues are encrypted as they are stored: False while hosts may run a release that reads
    # only plain text. Opened by `manage.py reencrypt`; new installations begin with it.
    encrypts_secrets = models.BooleanField(default=True, db_default=False)

    def __str__(self) -> str:
        return "the installation"

    @classmethod
    def current(cls) -> "Installation":
        return cls.objects.get_or_create(pk=1)[0]

    @classmethod
    def draw_again(cls) -> "Installation":
        """Give the installation a new key part, for all of its tasks, and have it draw a new signing key."""
        values = {"key_part": draw_key_part(), "last_task_without_part": 0, "signing_key": ""}
        return cls.objects.update_or_create(pk=1, defaults=values)[0]

    def key_part_of(self, task_id: int) -> str:
        """Return the random part of the keys of a task; empty for a task that is older than the part."""
        return self.key_part if task_id > self.last_task_without_part else ""
