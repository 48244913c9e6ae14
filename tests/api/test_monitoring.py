"""The alert rules and the dashboard in the docs name what /metrics exposes, and the page says what to do."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from operators.actor import Actor
from scheduling import models, store
from scheduling.core import clock, keys, limits
from scheduling.dispatch import lateness
from scheduling.jobqueue import cluster
from scheduling.proof import checks
from settings.place import BASE_DIR

pytestmark = pytest.mark.django_db

DOCS = BASE_DIR / "docs"
RULES = yaml.safe_load((DOCS / "monitoring/alerts.yml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((DOCS / "monitoring/dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
EXPRESSIONS = [
    *(rule["expr"] for rule in ALERTS.values()),
    *(target["expr"] for panel in PANELS for target in panel.get("targets", ())),
]
METRIC = re.compile(r"\bquarterdeck_\w+")
SELECTOR = re.compile(r"(quarterdeck_\w+)\{([^}]*)\}")
# What Prometheus and the example of the docs add to each sample.
ADDED = {"job", "instance"}


def names(text: str) -> set[str]:
    return set(METRIC.findall(text))


@pytest.fixture
def exposed(api, write_lists) -> dict[str, set[str]]:
    """The metrics of an installation that has been used, each with its labels."""
    api.list([1, 2, 3])
    write_lists()
    at = store.now()
    models.Heartbeat.objects.create(
        owner=1, cluster=cluster.MINUTES, host="a", pid=7, started_at=at, seen_at=at,
        clock_offset_ms=1, round_trip_ms=1,
    )  # fmt: skip
    checks.resume(checks.begin(by=Actor.system(), at=at).pk, store.now)
    queue, running = models.Queue.objects.get(), clock.running_window_start(at)
    window_id = keys.window_id(queue.pk, running)
    store.create_windows([window_id], capacity=queue.rpm)
    lateness.add({keys.bucket_id(window_id, 0): {2: 98}})
    families = text_string_to_metric_families(api.get("/metrics").content.decode())
    return {family.name: set(family.samples[0].labels) for family in families}


def test_every_metric_of_the_alert_rules_and_the_dashboard_is_exposed(exposed):
    used = set().union(*map(names, EXPRESSIONS), names(json.dumps(DASHBOARD["templating"])))
    assert len(used) > 25
    assert used <= set(exposed)


def test_every_exposed_metric_is_on_the_dashboard_and_in_the_docs(exposed):
    assert set(exposed) == names(json.dumps(PANELS))
    table = (DOCS / "deployment.md").read_text().split("## Monitoring")[1].split("\n## ")[0]
    assert {f"quarterdeck_{name}" for name in re.findall(r"`([a-z_]+)`", table)} >= set(exposed)


def test_alert_rules_and_dashboard_select_and_group_by_labels_that_exist(exposed):
    for text in EXPRESSIONS:
        for metric, matchers in SELECTOR.findall(text):
            assert set(re.findall(r"(\w+)\s*=", matchers)) <= exposed[metric] | ADDED, text
        grouped = {label for matches in re.findall(r"by \(([^)]+)\)", text) for label in matches.split(", ")}
        for metric in names(text):
            assert grouped <= exposed[metric] | ADDED, text
    shown = [(rule["annotations"]["summary"], rule["expr"]) for rule in ALERTS.values()]
    shown += [(item["legendFormat"], item["expr"]) for panel in PANELS for item in panel.get("targets", ())]
    for text, expression in shown:
        labels = set(re.findall(r"\{\{ ?\$labels\.(\w+)|\{\{(\w+)\}\}", text))
        expected = set().union(*(exposed[metric] for metric in names(expression))) | ADDED
        assert {item or other for item, other in labels} <= expected, text


def test_every_alert_has_a_severity_a_summary_and_a_line_on_the_page():
    assert len(ALERTS) == sum(len(group["rules"]) for group in RULES["groups"])
    page = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "monitoring.md").read_text(), re.MULTILINE))
    assert list(page) == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"]["summary"], name
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, name
        assert rule["expr"].count("(") == rule["expr"].count(")"), name


def test_limits_in_the_alert_rules_are_those_of_the_board():
    reported = limits.CLOCK_OFFSET_REPORTED.total_seconds()
    for name in ("QuarterdeckClockOff", "QuarterdeckClocksApart"):
        assert ALERTS[name]["expr"].endswith(f"> {reported}")
    assert ALERTS["QuarterdeckDatabaseFar"]["expr"].endswith(
        f"> {limits.ROUND_TRIP_REPORTED.total_seconds()}"
    )


def places(panel: dict) -> Iterator[tuple[int, int]]:
    place = panel["gridPos"]
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_panels_of_the_dashboard_have_ids_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = [place for panel in PANELS for place in places(panel)]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24
    variables = {item["name"] for item in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", " ".join(EXPRESSIONS))) <= variables
