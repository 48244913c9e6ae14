"""What a seed stands for: queues, faults, and what operators do when. It is drawn before anything runs.

A scenario can be written down as a short text and read again, with what a shrinker has taken out of it: so a
failure that was found once is a line in `seeds.txt`.
"""

import random
from dataclasses import dataclass, field
from typing import Any

from . import shapes

# Faults that can be left out of a scenario one by one.
FAULTS = (
    "deaths", "freezes", "statements", "clocks", "jobs", "preemption", "slow", "targets", "stops", "acknowledgements",
)  # fmt: skip
ACTIONS = {
    "submit": 24, "replace": 12, "cancel": 15, "pause": 6, "resume": 7, "brake": 10, "rpm": 8, "retry": 8, "resend": 6,
    "rename": 1, "again": 3, "policy": 2, "cancel_all": 2, "check": 2,
}  # fmt: skip
# Some scenarios follow a plot: actions in this order, as (name, moment, hint), which lead to states that chance
# alone rarely meets.
STAYS_DOWN = "a target stays down"
PLOTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "an edit takes IDs out, and another one brings them back": (
        ("submit", "now", ""), ("replace", "now", "shorter"), ("replace", "now", "back"),
    ),
    "an edit meets a list that is being written": (("replace", "accepted", "longer"), ("submit", "now", "")),
    "a cancel meets a list that is being written": (("cancel", "accepted", ""), ("submit", "now", "")),
    "rpm falls under what is planned": (("submit", "now", "dense"), ("rpm", "now", "lowest")),
    "a list is too long for its window": (("submit", "now", "too long"),),
    "a list is longer than its window": (("submit", "now", "longest"),),
    "a list is placed above rpm": (("submit", "now", "longest"),),
    STAYS_DOWN: (("submit", "now", "long"), ("retry", "now", "")),
    "a client gets no response and asks again": (("submit", "now", "keyed"), ("again", "now", "")),
    "what failed is retried": (("submit", "now", "long"), ("retry", "request", ""), ("retry", "now", "")),
    "what succeeded is sent again": (("resend", "request", ""), ("resend", "now", "")),
    "a pause meets a minute": (("submit", "now", "long"), ("pause", "request", ""), ("resume", "now", "")),
    "a hold meets a minute": (("submit", "now", "long"), ("hold", "request", ""), ("continue", "now", "")),
    "an edit meets a list in two windows": (("submit", "now", "longest"), ("replace", "now", "longer")),
    "a brake meets a minute": (("submit", "now", "long"), ("brake", "request", "lowest"), ("brake", "now", "")),
}  # fmt: skip
MOMENTS = ("now", "now", "now", "request", "request", "accepted", "sealed")
HANDLERS = ("webhook", "webhook", "webhook", "webhook", "record", "python")
QUEUES_OF: dict[str, dict[str, Any]] = {
    "rpm falls under what is planned": {"headroom": 0, "rpm": 6, "overflow": "carry_over", "max_peak": None},
    "a list is longer than its window": {"rpm": 1, "headroom": 0},
    "an edit meets a list in two windows": {"rpm": 1, "headroom": 0, "overflow": "carry_over"},
    "a list is placed above rpm": {"rpm": 1, "headroom": 0, "overflow": "disperse", "max_peak": None},
    STAYS_DOWN: {
        "handler": "webhook", "webhook_url": "http://target-a.test/", "breaker_threshold": 2, "max_connections": 2,
        "python_callable": "", "rpm": 6,
    },
    "a list is too long for its window": {"rpm": 1, "headroom": 0, "overflow": "disperse", "max_peak": 1},
}  # fmt: skip


@dataclass(frozen=True)
class Action:
    """Something that an operator does. at: seconds after the storm began; dice: draws its details.

    moment: when it is done from then on. "now", "request" (while a request is on the wire), "accepted" (when a list
    was accepted and isn't written yet), or "sealed" (between the seal of a minute and its beginning). hint: what a
    plot wants of it; no fault meets an action of a plot.
    """

    number: int
    at: float
    name: str
    dice: str
    moment: str
    hint: str = ""


@dataclass(frozen=True)
class Scenario:
    """A seed, and what was left out of it."""

    seed: int
    # Faults that are switched off, and numbers of actions that don't happen.
    without: frozenset[str] = frozenset()
    skipped: frozenset[int] = frozenset()
    faults: frozenset[str] = field(default=frozenset(), compare=False)
    queues: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    actions: tuple[Action, ...] = field(default=(), compare=False)
    # Seconds after 12:00 at which the storm begins, and how long it lasts.
    begins_at: float = field(default=0.0, compare=False)
    lasts: float = field(default=0.0, compare=False)
    workers: int = field(default=1, compare=False)
    # Requests per minute that all queues of a target share, by its address.
    budgets: dict[str, int] = field(default_factory=dict, compare=False)
    plot: str | None = field(default=None, compare=False)

    def dice(self, purpose: str) -> random.Random:
        """Randomness of its own for each purpose, so that what is left out changes little else."""
        return random.Random(f"{self.seed}:{purpose}")

    def __str__(self) -> str:
        left_out = [*sorted(self.without), *map(str, sorted(self.skipped))]
        return f"{self.seed}/{','.join(left_out)}" if left_out else str(self.seed)


def parse(text: str) -> Scenario:
    """Read what `str(scenario)` has written: the seed, and after a slash what is left out."""
    seed, _, left_out = text.split("#")[0].strip().partition("/")
    names = [name for name in left_out.split(",") if name]
    return scenario(
        int(seed),
        without=frozenset(name for name in names if not name.isdigit()),
        skipped=frozenset(int(name) for name in names if name.isdigit()),
    )


def scenario(
    seed: int, *, without: frozenset[str] = frozenset(), skipped: frozenset[int] = frozenset()
) -> Scenario:
    """Draw the scenario of a seed."""
    dice = random.Random(f"{seed}:scenario")
    faults = frozenset(name for name in FAULTS if dice.random() < 0.45)
    begins_at = dice.choice([dice.uniform(780, 890), dice.uniform(10, 890), dice.uniform(850, 897)])
    # Most are short: what takes longer goes on in peace.
    lasts = 900 - begins_at + dice.uniform(*dice.choice([(90, 330), (90, 330), (90, 330), (330, 960)]))
    queues = tuple(_queue(number, dice) for number in range(dice.choice([1, 1, 1, 2, 2, 3])))
    plot = dice.choice(sorted(PLOTS)) if dice.random() < 0.7 else None
    if plot == STAYS_DOWN:
        faults |= {"targets"}
    # A plot may need other queues: fewer IDs fill a window at rpm 1.
    queues = tuple(fields | QUEUES_OF.get(plot or "", {}) for fields in queues)
    actions = _actions(dice, 900 - begins_at, lasts, plot)
    workers = dice.choice([1, 1, 1, 2])
    # From dice of their own, and not where a plot counts on its minutes: what else a seed does stays as it is.
    shaping = random.Random(f"{seed}:shapes")
    if plot is None:
        queues = tuple(fields | shapes.drawn(shaping) for fields in queues)
        actions += _changes_of_shape(shaping, lasts, len(actions))
    sharing = random.Random(f"{seed}:budgets")
    budgets = shapes.budgets(sharing, queues) if plot is None else {}
    if budgets:
        actions += _changes_of_budgets(sharing, lasts, 10_000)
    return Scenario(
        seed=seed,
        without=without,
        skipped=skipped,
        faults=faults - without,
        queues=queues,
        actions=tuple(action for action in actions if action.number not in skipped),
        plot=plot,
        begins_at=begins_at,
        lasts=lasts,
        workers=workers,
        budgets=budgets,
    )


def _queue(number: int, dice: random.Random) -> dict[str, Any]:
    handler = dice.choice(HANDLERS)
    fields: dict[str, Any] = {
        # Of the larger ones, a worker that comes late claims many IDs at once.
        "rpm": dice.choice([2, 3, 4, 6, 9, 60, 600]),
        "overflow": dice.choice(["carry_over", "disperse"]),
        "late_policy": dice.choice(["place_again", "place_again", "expire"]),
        "max_attempts": dice.choice([1, 2, 3]),
        "headroom": dice.choice([0, 0, 0, 1]),
        "handler": handler,
    }
    if fields["overflow"] == "disperse" and dice.random() < 0.4:
        fields["max_peak"] = fields["rpm"]
    if fields["late_policy"] == "expire":
        fields["late_after_seconds"] = dice.choice([60, 300, 1200])
    if handler == "webhook":
        # Two queues may share a target.
        fields["webhook_url"] = f"http://target-{dice.choice('aab')}.test/"
        fields["breaker_threshold"] = dice.choice([None, 2, 3])
        fields["max_connections"] = dice.choice([1, 2, 5])
    elif handler == "python":
        fields["python_callable"] = "storm.callable"
    return {"name": f"q{number}", **fields}


def _actions(dice: random.Random, running_from: float, lasts: float, plot: str | None) -> list[Action]:
    """Lists come first, so that there is something to do; then anything, mostly while minutes run."""
    names, weights = list(ACTIONS), list(ACTIONS.values())
    drawn = [
        ("submit", dice.uniform(0, running_from * 0.9), "now", "") for _ in range(dice.choice([1, 1, 2]))
    ]
    for _ in range(dice.randint(2, 6)):
        at = dice.uniform(0, lasts) if dice.random() < 0.25 else dice.uniform(running_from - 5, lasts)
        name = dice.choices(names, weights)[0]
        drawn.append((name, max(0.0, at), dice.choice(MOMENTS) if name != "submit" else "now", ""))
    if plot is not None:
        drawn += _steps(dice, running_from, lasts, PLOTS[plot])
    drawn.sort(key=lambda item: item[1])
    return [
        Action(number, round(at, 3), name, f"action {number}", moment, hint)
        for number, (name, at, moment, hint) in enumerate(drawn)
    ]


def _changes_of_shape(dice: random.Random, lasts: float, number: int) -> list[Action]:
    """Now and then, an operator changes the hours, the ramp or the quotas of a queue."""
    times = [dice.uniform(0, lasts) for _ in range(dice.choice([0, 0, 1, 2]))]
    return [
        Action(number + i, round(at, 3), "shape", f"shape {i}", dice.choice(MOMENTS))
        for i, at in enumerate(sorted(times))
    ]


def _changes_of_budgets(dice: random.Random, lasts: float, number: int) -> list[Action]:
    """Now and then, an operator changes a budget, or a queue's address, so that it comes to a budget or leaves it."""
    times = [dice.uniform(0, lasts) for _ in range(dice.choice([0, 1, 1, 2]))]
    return [
        Action(number + i, round(at, 3), "budget", f"budget {i}", dice.choice(MOMENTS))
        for i, at in enumerate(sorted(times))
    ]


def _steps(
    dice: random.Random, running_from: float, lasts: float, steps: tuple[tuple[str, str, str], ...]
) -> list[tuple[str, float, str, str]]:
    """The actions of a plot: the lists of some are there when minutes begin to run, of others later."""
    first = dice.choice([dice.uniform(0, running_from * 0.9), dice.uniform(running_from, lasts)])
    later = sorted(dice.uniform(max(first, running_from), lasts) for _ in steps[1:])
    if steps[0][1] == "accepted" or steps[-1][2] == "lowest":
        # Whoever waits for a list has to be there before it; and rpm moves only what doesn't run yet.
        later = [first + dice.choice([1.0, 10.0])]
    return [
        (name, at, moment, hint or "as drawn")
        for (name, moment, hint), at in zip(steps, [first, *later], strict=True)
    ]
