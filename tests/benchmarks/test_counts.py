"""The regression gate: nothing may cost more than `benchmarks/counts.json` says; and the counting itself."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import counts
import pytest

import tiny


def test_no_count_has_grown() -> None:
    grown, shrunk = counts.changes(json.loads(counts.RESULT.read_text()), counts.all_counts())
    assert not grown, "more than recorded; if that is meant, run: python benchmarks/counts.py"
    if shrunk:
        warnings.warn(f"less than recorded; to keep it, run: python benchmarks/counts.py\n{shrunk}", stacklevel=1)


def test_changes_are_named() -> None:
    recorded = {"a call": {"operations": 100, "calls": 4, "gone": 1}, "gone": {"calls": 1}}
    received = {"a call": {"operations": 101, "calls": 3, "new": 0}, "new": {"calls": 0}}
    grown, shrunk = counts.changes(recorded, received)
    assert shrunk == ["a call: calls: 4 → 3"]
    assert grown == [
        "a call: gone: 1 → not counted",
        "a call: new: not recorded → 0",
        "a call: operations: 100 → 101",
        "gone: calls: 1 → not counted",
        "new: calls: not recorded → 0",
    ]
    assert counts.changes(received, received) == ([], [])


def test_more_work_counts_more_and_the_pipeline_is_left_as_it_was() -> None:
    pipe = tiny.pipeline()
    call = {"task": "matting_auto", "images": [tiny.picture()], "num_inference_steps": 2, "seed": 0}
    plain, longer = counts.call_counts(pipe, **call), counts.call_counts(pipe, **call | {"num_inference_steps": 3})
    assert longer["calls: denoise"] == 3 * plain["calls: denoise"] / 2
    assert longer["operations: denoise"] == 3 * plain["operations: denoise"] / 2
    grown, shrunk = counts.changes({"": plain}, {"": longer})
    assert len(grown) == 3  # calls, their operations, those of the whole
    assert not shrunk
    assert not pipe.text_encoder.model.visual._forward_hooks


@pytest.mark.skipif(not Path("/proc/sys/fs/inotify").is_dir(), reason="the kernel has no inotify")
def test_bytes_of_every_opening_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "below"
    folder.mkdir()
    (tmp_path / "a").write_bytes(bytes(100))
    (folder / "b").write_bytes(bytes(20))
    (folder / "unread").write_bytes(bytes(3))

    def load() -> None:
        (tmp_path / "a").read_bytes()
        (folder / "b").read_bytes()
        (folder / "b").read_bytes()
        list(folder.iterdir())

    assert counts.bytes_opened(tmp_path, load) == 100 + 2 * 20
