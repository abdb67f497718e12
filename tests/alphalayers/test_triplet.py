"""The record of a sample: what is written is read back, wherever the folder is by then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.alphalayers.triplet import Triplet, read_triplets, write_triplets


def test_a_written_triplet_is_read_back_from_where_the_folder_is_now(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    picture = np.zeros((2, 3, 4), np.uint8)
    picture[0, 1] = (255, 0, 51, 102)
    Image.fromarray(picture).save(before / "f.png")
    whole = Triplet(
        id="1", seed=7, name="tests/a", source="tests", licence="CC0", identity="kite", given_caption="ein Drachen",
        foreground=before / "f.png", composite=before / "f.png", background=before / "f.png",
        foreground_caption="a kite", score=0.25, stages={"collect": "abc"},
    )  # fmt: skip
    fresh = Triplet(id="2", seed=8, name="tests/b", source="tests", identity="b", foreground=before / "f.png")

    assert write_triplets(iter([whole, fresh]), before / "list.jsonl", before) == 2
    shutil.move(before, after)

    first, second = read_triplets(after / "list.jsonl", after)
    assert first.foreground == after / "f.png"
    assert first.score == 0.25
    assert first.stages == {"collect": "abc"}
    assert np.array_equal(first.read_foreground(), picture.astype(np.float32) / np.float32(255))
    assert first.read_composite().shape == first.read_background().shape == (2, 3, 3)
    assert second.composite is None
    assert second == Triplet(id="2", seed=8, name="tests/b", source="tests", identity="b", foreground=after / "f.png")
    lines = (after / "list.jsonl").read_text(encoding="utf-8").splitlines()
    assert str(tmp_path) not in lines[0]
    assert set(json.loads(lines[1])) == {"id", "seed", "name", "source", "identity", "foreground", "stages"}
