"""What `make bench-peers` judges and writes."""

import json
import re

import pytest

from benchmarks.peers import measures, table
from benchmarks.peers.measures import Measured
from benchmarks.peers.programs import HERE, OURS, PEERS

PEER = {peer.name: peer for peer in PEERS}


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peer_has_a_program_and_a_pinned_version(peer):
    suffix = "" if peer.program.endswith(".mjs") else ".py"
    assert (HERE / f"{peer.program}{suffix}").is_file()
    assert peer.name == OURS or re.fullmatch(r"\d+\.\d+\.\d+", peer.version)


def test_node_packages_are_locked_as_pinned():
    pinned = json.loads((HERE / "package.json").read_text())["dependencies"]
    locked = json.loads((HERE / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in pinned} == pinned
    assert all("integrity" in package for name, package in locked.items() if name)


def test_table_gives_ratios_and_reasons():
    own = Measured(PEER[OURS], {"enqueue": 1_000.0, "memory": 400.0, "sent 600": 1.0, "kills": "0 / 3 / 0"})
    other = Measured(PEER["huey"], {"enqueue": 2_500.0, "memory": 100.0, "kills": "7 / 0 / 0"})
    absent = Measured(PEER["celery"], missing="there is no redis-server")
    page = table.page([own, other, absent], "introduction", {"enqueue": "today"})
    lines = page.splitlines()
    assert re.search(
        r"^\| Quarterdeck \(this tree\) \| 1,000 \| .* 100\.0 % \| 400 \| 0 / 3 / 0 \|", page, re.MULTILINE
    )
    assert re.search(r"^\| huey \([\d.]+\) \| 2,500 \(2\.5 of ours\) \| not measured \|", page, re.MULTILINE)
    assert re.search(r"^\| celery \([\d.]+\) \| missing: there is no redis-server \|", page, re.MULTILINE)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "- enqueue, jobs/s: Quarterdeck beats nobody, and loses to huey." in lines
    assert "- workers killed: Quarterdeck 0 / 3 / 0 lost / doubled / stuck; without any: nobody." in lines


def test_judge_tells_lost_doubled_and_stuck_jobs_apart():
    assert measures.judge([0, 1, 1, 2, 2, 2], count=6, pending=2) == (1, 2, 2)
    assert measures.judge([0, 1, 2], count=3, pending=1) == (0, 0, 0)


def test_most_in_a_minute_is_that_of_any_sixty_seconds():
    times = [0.0, 50.0, 59.9, 60.0, 109.9, 110.0, 170.0]
    assert measures.most_in_a_minute(times) == 4
    assert measures.most_in_a_minute([]) == 0


def test_unevenness_counts_seconds_without_a_start():
    assert measures.unevenness([0.5, 1.5, 2.5, 3.5], 0.0, 4) == 0
    assert measures.unevenness([0.1, 0.2, 0.3, 0.4], 0.0, 4) == pytest.approx(3**0.5)
