"""An installation on simulated time whose alerts go to a real receiver."""

import json
from datetime import datetime, timedelta

from operators.actor import Actor
from scheduling import models
from scheduling.alerts import channels, evaluation
from scheduling.core import clock
from scheduling.events import delivery
from scheduling.models import EventType
from tests.scheduling.target import Target

BY = Actor.command_line()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BASE_URL = "https://deck.example"
ALERTS = [EventType.ALERT_FIRING, EventType.ALERT_RESOLVED]


def make_channel(
    kind: str, address: str, *, types=ALERTS, name: str = "", secret: str = ""
) -> models.Channel:
    fields = {"name": name or kind, "address": address, "types": list(types)}
    if secret:
        fields["secret"] = secret
    return channels.create(kind=kind, fields=fields, base_url=BASE_URL, by=BY, at=clock.EPOCH)[0]


class Installation:
    """Both clusters live and quarter-hours are processed, unless a test says otherwise.

    at: the time. messages: the (type, kind) of what the receiver was messages, in order.
    """

    def __init__(self, target: Target, at: datetime) -> None:
        self.target, self.at = target, at
        self.is_alive = {"quarterdeck": True, "minutes": True}
        self.processes_quarters = True
        make_channel("webhook", target.url, secret=SECRET)

    def live(self) -> None:
        for number, (cluster, is_alive) in enumerate(self.is_alive.items(), 1):
            if is_alive:
                values = {"cluster": cluster, "host": "h", "pid": 1, "workers": 2, "seen_at": self.at}
                models.Heartbeat.objects.update_or_create(
                    owner=number, defaults=values, create_defaults={**values, "started_at": self.at}
                )
        if self.processes_quarters:
            quarter_at = clock.quarter_start(self.at)
            models.QuarterRun.objects.get_or_create(quarter_at=quarter_at, defaults={"ran_at": quarter_at})

    def look(self) -> None:
        """Do what a cluster does each minute: look at the conditions and deliver what is due."""
        self.live()
        evaluation.evaluate(at=self.at)
        delivery.deliver(lambda: self.at)

    def let_pass(self, **span: float) -> None:
        """Let time pass: minute by minute, or in longer steps where much passes."""
        length = timedelta(**span)
        end, step = self.at + length, max(clock.MINUTE, length / 10)
        while self.at < end:
            self.at = min(end, self.at + step)
            self.look()

    @property
    def bodies(self) -> list[dict]:
        return [json.loads(request.body) for request in self.target.requests]

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(body["type"], body["data"]["kind"]) for body in self.bodies]
