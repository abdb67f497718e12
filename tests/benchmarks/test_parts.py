"""Parts of a measurement: the order, the deadline, failures, and what is kept of earlier runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from parts import Part, Results, run_parts


class FakeClock:
    """Time that passes only inside parts."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(lengths: dict[str, tuple[float, float]], until: float) -> tuple[dict[str, dict[str, Any]], bool]:
    """Run parts of (expected, real) seconds; a negative real length raises."""
    clock = FakeClock()

    def part(name: str, expected: float, real: float) -> Part:
        def measure() -> dict[str, Any]:
            clock.now += abs(real)
            if real < 0:
                raise RuntimeError("out of memory\nmany lines")
            return {"figure": name}

        return Part(name, expected, measure)

    recorded: dict[str, dict[str, Any]] = {}
    parts = [part(name, *pair) for name, pair in lengths.items()]
    complete = run_parts(parts, recorded.__setitem__, until=until, tidy=lambda: None, clock=clock)
    return recorded, complete


def test_parts_run_in_order_and_tell_their_time() -> None:
    recorded, complete = run({"first": (5, 4), "second": (5, 3)}, until=20)
    assert list(recorded.items()) == [
        ("first", {"figure": "first", "part_seconds": 4.0}),
        ("second", {"figure": "second", "part_seconds": 3.0}),
    ]
    assert complete


def test_what_would_not_end_in_time_is_left_out_and_shorter_parts_still_run() -> None:
    recorded, complete = run({"first": (5, 12), "long": (9, 9), "short": (5, 5)}, until=20)
    assert recorded["long"] == {"left_out": "expected 9 s, 8 s left"}
    assert recorded["short"]["figure"] == "short"
    assert not complete


def test_a_failing_part_is_reported_in_one_line_and_the_next_one_runs() -> None:
    recorded, complete = run({"first": (5, -2), "second": (5, 3)}, until=20)
    assert recorded["first"] == {"failed": "RuntimeError: out of memory", "part_seconds": 2.0}
    assert recorded["second"]["figure"] == "second"
    assert not complete


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "result.json", {"hardware": "a GPU"}, "python script.py")


def test_the_file_is_written_after_every_part(results: Results) -> None:
    for number, name in enumerate(["first", "second"], start=1):
        results.record(name, {"seconds": number})
        assert len(json.loads(results.file.read_text())["parts"]) == number


def test_a_later_run_keeps_what_it_does_not_measure_again(results: Results) -> None:
    results.record("first", {"seconds": 1})
    results.record("second", {"seconds": 2})
    later = Results(results.file, results.settings, "python script.py --missing")
    later.record("first", {"left_out": "no time"})
    later.record("second", {"seconds": 3})
    assert later.parts == {"first": {"seconds": 1}, "second": {"seconds": 3}}
    assert later.measured("first")
    assert not later.measured("third")


def test_other_settings_begin_a_new_file(results: Results) -> None:
    results.record("first", {"seconds": 1})
    assert Results(results.file, {"hardware": "another GPU"}, "").parts == {}
