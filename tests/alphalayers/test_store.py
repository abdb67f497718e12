"""The store: whole records or none, found under what was asked and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from omnialpha.alphalayers import store as module
from omnialpha.alphalayers.store import Failure, Question, Store
from omnialpha.errors import InputError

ASKED = Question(stage="edit", version=1, settings={"model": "m"}, inputs={"id": "0", "instruction": "a"})


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, stage="remove"),
        replace(ASKED, version=2),
        replace(ASKED, settings={"model": "n"}),
        replace(ASKED, inputs={"id": "0", "instruction": "b"}),
    ],
)
def test_everything_that_is_asked_is_in_the_key(other: Question) -> None:
    assert replace(ASKED).key == ASKED.key
    assert other.key != ASKED.key


def test_an_answer_is_found_with_its_pictures_and_says_who_gave_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find(ASKED) is None

    store.put(ASKED, {"values": {"x": 1.5}}, {"composite": Image.new("RGB", (2, 1), "red")}, backend="b", seconds=0.25)

    assert Store(tmp_path).find(ASKED) == {"values": {"x": 1.5}}
    with Image.open(store.picture("edit", ASKED.key, "composite")) as picture:
        assert picture.getpixel((1, 0)) == (255, 0, 0)
    record = store.read("edit", ASKED.key)
    assert (record["stage"], record["backend"], record["settings"], record["inputs"], record["seconds"]) == (
        "edit", "b", {"model": "m"}, {"id": "0", "instruction": "a"}, 0.25,
    )  # fmt: skip
    assert record["when"].endswith("+00:00")


def test_an_answer_whose_pictures_cannot_be_written_is_no_answer(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_png", full)
    store = Store(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        store.put(ASKED, {"values": {}}, {"composite": Image.new("RGB", (1, 1))})
    assert store.find(ASKED) is None


def test_a_failure_is_remembered_until_there_is_an_answer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_failure(ASKED, Failure(kind="failed", reason="out of memory"), backend="b")
    assert store.failure(ASKED) == Failure(kind="failed", reason="out of memory")
    assert store.find(ASKED) is None

    store.put(ASKED, {"values": {}})
    assert store.failure(ASKED) is None


def test_damaged_and_missing_records_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(InputError, match=r"edit/.*\.json: is not in the store"):
        store.read("edit", ASKED.key)
    store.put(ASKED, {"values": {}})
    (file,) = (tmp_path / "edit").glob("*/*.json")
    file.write_text(json.dumps({"result": 1})[:-3])
    with pytest.raises(InputError, match="delete it to run the stage again"):
        store.find(ASKED)
