"""Folders of pairs: reading, writing, hashing, and one clear line for everything that is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

import pair_folder
from omnialpha.errors import InputError
from omnialpha.evaluation.pairs import FILE, Pair, pairs_hash, read_pairs, write_pairs


def test_round_trip(tmp_path: Path) -> None:
    pairs = pair_folder.make(tmp_path)
    assert read_pairs(tmp_path) == pairs
    assert list(pairs[0].candidates) == ["ours", "LayerDiffuse"]
    assert [file.parent.name for file in pairs[0].files] == ["ours", "LayerDiffuse", "given"]


def test_hash_follows_content_and_not_place(tmp_path: Path) -> None:
    first, second = pair_folder.make(tmp_path / "a"), pair_folder.make(tmp_path / "b")
    assert pairs_hash(first) == pairs_hash(second)
    first[0].files[0].write_bytes(first[1].files[0].read_bytes())
    assert pairs_hash(first) != pairs_hash(second)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "case 0"}, "id 'case 0' stands in an earlier line"),
        ({"id": ""}, "id: expected a text"),
        ({"text": None}, "text: expected a text, found None"),
        ({"txt": "x"}, "unknown field 'txt'; did you mean \"text\"?"),
        ({"condition": "absent.png"}, "'absent.png' is no file"),
        ({"candidates": {"ours": "ours/1.png"}}, "expected two methods"),
        ({"candidates": {"ours": "ours/1.png", "tie": "ours/1.png"}}, 'none of them called "tie"'),
        (
            {"candidates": {"LayerDiffuse": "ours/1.png", "ours": "ours/1.png"}},
            "expected the candidates ours and Layer",
        ),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    pair_folder.make(tmp_path)
    first, second, *_ = (tmp_path / FILE).read_text().splitlines()
    (tmp_path / FILE).write_text("\n".join([first, "", json.dumps({**json.loads(second), **change})]))
    with pytest.raises(InputError) as caught:
        read_pairs(tmp_path)
    assert f"{FILE}, line 3: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "[1]", "{"])
def test_files_without_pairs(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / FILE).write_text(content)
    with pytest.raises(InputError, match=FILE):
        read_pairs(tmp_path)


def test_pictures_outside_are_refused(tmp_path: Path) -> None:
    (pair, *_) = pair_folder.make(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="copy it there first"):
        write_pairs([Pair(id="x", task=pair.task, text="x", candidates=pair.candidates)], tmp_path / "b")
