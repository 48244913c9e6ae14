"""The storm as it belongs to every change: 200 seeds, those that failed once, and that a seed is replayed exactly."""

import os
import subprocess
import sys
from pathlib import Path

from tests.storm.mutants import MUTANTS, ROOT

HERE = Path(__file__).resolve().parent
KEPT = [
    line.split("#")[0].strip()
    for line in (HERE / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def storm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run storms in a process of their own, since they bend its clock."""
    return python("-m", "tests.storm", *arguments, **environment)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "DATABASE_URL")
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=HERE.parents[1],
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )


def test_storm_of_200_seeds_breaks_no_promise_and_reaches_every_state():
    done = storm("--seeds", "200", "--processes", "2")
    assert done.returncode == 0, done.stdout[-4000:]


def test_storm_replays_a_seed_exactly_in_another_process():
    digests = {
        storm("--seeds", "4", "--from", "40", PYTHONHASHSEED=seed).stdout.rsplit("digest", 1)[-1]
        for seed in "12"
    }
    assert len(digests) == 1


def test_storm_of_each_seed_that_failed_once():
    done = storm(*KEPT)
    assert done.returncode == 0, done.stdout[-4000:]


def test_every_operation_is_atomic_whichever_statement_fails():
    done = python("-m", "tests.storm.statements", "--every", "9")
    assert done.returncode == 0, done.stdout[-4000:]


def test_each_fault_that_was_written_by_hand_fits_the_code():
    fitting = [(ROOT / "scheduling" / mutant.path).read_text().count(mutant.old) for mutant in MUTANTS]
    assert [mutant.name for mutant, times in zip(MUTANTS, fitting, strict=True) if times != 1] == []
