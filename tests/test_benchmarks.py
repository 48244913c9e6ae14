"""What `make bench` writes."""

import importlib

import pytest

driver = importlib.import_module("benchmarks.__main__")

KEPT = {"name": "a", "value": 0.61, "unit": "of the rate, at least", "limit": 0.5, "ok": True}
MISSED = {"name": "b", "value": 1.4, "unit": "of the time, at most", "limit": 1.2, "ok": False}
TOLD = {"name": "c", "value": 17.0, "unit": "MB", "limit": None, "ok": True}


def test_every_benchmark_module_is_found():
    assert {"allocator", "intake"} <= set(driver.names())
    assert "service" not in driver.names()


def test_section_shows_kept_and_missed_limits():
    lines = driver.section("intake", [KEPT, MISSED, TOLD]).splitlines()
    assert "| a | 0.61 of the rate, at least | 0.5 | kept |" in lines
    assert "| b | 1.4 of the time, at most | 1.2 | **missed** |" in lines
    assert "| c | 17 MB |  |  |" in lines


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(driver, "names", lambda: ["allocator", "intake"])
    return tmp_path / "RESULTS.md"


def test_measuring_one_benchmark_keeps_the_results_of_others(results, monkeypatch):
    rows = {"allocator": [KEPT], "intake": [MISSED]}
    monkeypatch.setattr(driver, "_run_apart", rows.__getitem__)
    assert driver.main([]) == 1
    rows["allocator"] = [{**KEPT, "value": 0.7}]
    assert driver.main(["allocator"]) == 0
    text = results.read_text()
    assert text.startswith(driver.INTRODUCTION)
    assert text.count("## ") == 2
    assert "0.7 of the rate" in text
    assert "0.61" not in text
    assert "1.4 of the time" in text


def test_unknown_benchmark_name_is_refused(results):
    assert driver.main(["nosuch"]) == 64
    assert not results.exists()
