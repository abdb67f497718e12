"""Published folders, read by the libraries they are made for."""

import io
import json
import re
import shutil
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import webdataset
from huggingface_hub import DatasetCard
from PIL import Image

from finished_build import make_build
from omnialpha.alphalayers import shards
from omnialpha.alphalayers.finished import read_finished
from omnialpha.alphalayers.publish import publish
from omnialpha.errors import InputError, OutputError


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_build(tmp_path_factory.mktemp("build") / "out")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` may not ask the hub, nor keep anything outside this test."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.usefixtures("offline")
def test_datasets_loads_the_parquet_folder(build: Path, tmp_path: Path) -> None:
    publish(build, tmp_path / "set")
    loaded = datasets.load_dataset(str(tmp_path / "set"))  # checks the numbers of samples against the card, too
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "test": 2}
    expected = {each.sample.id: each for each in read_finished(build)}
    for row in (*loaded["train"], *loaded["test"]):
        each = expected.pop(row["id"])
        for name, file in each.pictures.items():
            with Image.open(file) as picture:
                assert row[name].mode == picture.mode
                assert np.array_equal(np.asarray(row[name]), np.asarray(picture))
        assert {name: row[name] for name in each.texts} == each.texts
        assert {name: row[name] for name in each.numbers} == each.numbers
        assert row["instruction"].startswith("Replace the background with")
        assert row["foreground"].mode == "RGBA"
    assert not expected


@pytest.mark.usefixtures("offline")
def test_parquet_says_itself_what_is_a_picture(build: Path, tmp_path: Path) -> None:
    """A single shard, without the card beside it."""
    publish(build, tmp_path / "set")
    file = shutil.copy(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", tmp_path)
    rows = datasets.load_dataset("parquet", data_files=str(file), split="train")
    assert [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)] == list(shards.PICTURES)


def test_webdataset_reads_the_tar_files(build: Path, tmp_path: Path) -> None:
    publish(build, tmp_path / "set", format="webdataset")
    rows: list[dict[str, Any]] = []
    for split, number in (("train", 4), ("test", 2)):
        [file] = (tmp_path / "set" / "data").glob(f"{split}-*.tar")
        rows += webdataset.WebDataset(str(file), shardshuffle=False, empty_check=False).decode("pilrgba")
        assert len(rows) == (4 if split == "train" else 6), number
    expected = {each.sample.id: each for each in read_finished(build)}
    for row in rows:
        each = expected.pop(row["__key__"])
        for name, path in each.pictures.items():
            with Image.open(path) as picture:
                assert np.array_equal(np.asarray(row[f"{name}.png"]), np.asarray(picture.convert("RGBA")))
        assert row["json"] == {"id": each.sample.id, **each.texts, **each.numbers}
    assert not expected


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_same_build_same_bytes(build: Path, tmp_path: Path, format: str) -> None:
    """Wherever it lies; without a place to go to it is published inside the build."""
    moved = shutil.copytree(build, tmp_path / "moved")
    publish(build, tmp_path / "a", format=format)
    assert publish(moved, format=format) == moved / "published"
    assert _files(tmp_path / "a") == _files(moved / "published")


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_shards_are_bounded(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build = make_build(tmp_path / "out", samples=9, side=16)
    sizes = [sum(f.stat().st_size for f in each.pictures.values()) for each in read_finished(build)]
    monkeypatch.setattr("omnialpha.alphalayers.publish._MEGABYTE", max(sizes) * 5 // 2)
    publish(build, tmp_path / "set", format=format, shard_mb=1)
    suffix = "parquet" if format == "parquet" else "tar"
    names = sorted(file.name for file in (tmp_path / "set" / "data").iterdir())
    assert names == [
        *(f"test-0000{i}-of-00002.{suffix}" for i in range(2)),
        *(f"train-0000{i}-of-00003.{suffix}" for i in range(3)),
    ]


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = make_build(tmp_path / "out", samples=9, side=16)
    monkeypatch.setattr(shards, "GROUP_BYTES", 1)
    publish(build, tmp_path / "set")
    file = pyarrow.parquet.ParquetFile(tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [1] * 6


def _multiplied(build: Path, out: Path, times: int) -> Path:
    """A build with many more samples, whose files are links to the same few."""
    (out / "masks").mkdir(parents=True)
    (out / "store").symlink_to(build / "store")
    shutil.copy(build / "build.json", out)
    lines = []
    for line in (build / "manifest.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
        sample = json.loads(line)
        for time in range(times):
            name = f"{sample['id']}{time}"
            (out / "masks" / name).symlink_to(build / "masks" / sample["id"])
            lines.append(json.dumps({**sample, "id": name}) + "\n")
    (out / "manifest.jsonl").write_text("".join(lines))
    return out


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_memory_does_not_grow_with_the_data_set(
    build: Path, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "GROUP_BYTES", 20_000)
    peaks: list[int] = []
    for times in (2, 2, 12):  # the first to warm up
        out = _multiplied(build, tmp_path / f"out{len(peaks)}", times)
        tracemalloc.start()
        publish(out, tmp_path / "set", format=format, overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[2] - peaks[1]) / (10 * 6) < 1000  # bytes per sample; its pictures have several times as many


def test_card(build: Path, tmp_path: Path) -> None:
    publish(build, tmp_path / "set")
    card = DatasetCard.load(tmp_path / "set" / "README.md")
    known, text = card.data.to_dict(), card.text
    assert known["configs"][0]["data_files"] == [
        {"split": "train", "path": "data/train-*.parquet"},
        {"split": "test", "path": "data/test-*.parquet"},
    ]
    assert [part["num_examples"] for part in known["dataset_info"]["splits"]] == [4, 2]
    assert known["size_categories"] == ["n<1K"]
    assert "| painted | CC0-1.0 | 3 |" in text
    assert "| filter | too small | 1 |" in text
    assert "| edit | OSError | 1 |" in text
    assert '| editor | {"kind": "diffusers", "steps": 40} |' in text
    scores = [each.sample.score for each in read_finished(build)]
    assert f"worst {max(scores):.4f}" in text  # type: ignore[type-var]
    assert "| seed | 3 |" in text
    assert "| distance | 4 |" in text
    assert str(build.parent) not in text
    assert "/home/me" not in text


def test_reasons_beyond_counting_are_put_together(build: Path, tmp_path: Path) -> None:
    many = shutil.copytree(build, tmp_path / "many")
    failures = [
        {"id": "", "name": str(i), "stage": "edit", "kind": "failed", "reason": f"error {i}"} for i in range(90)
    ]
    (many / "dropped.jsonl").write_text("".join(json.dumps(failure) + "\n" for failure in failures))
    publish(many)
    assert "| edit | other reasons | 50 |" in (many / "published" / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("format", "first"), [("parquet", "foreground"), ("webdataset", "foreground.png")])
def test_the_code_on_the_card_runs(
    build: Path, tmp_path: Path, format: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(build, tmp_path / "set", format=format)
    monkeypatch.chdir(tmp_path / "set")
    [code] = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(tmp_path / "set")), names)
    assert next(iter(names["samples"]))[first].mode == "RGBA"


def test_what_is_not_finished_is_refused(build: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such manifest"):
        publish(tmp_path, tmp_path / "set")
    broken = shutil.copytree(build, tmp_path / "broken")
    next((broken / "masks").rglob("trimap.png")).unlink()
    with pytest.raises(InputError, match=r"trimap\.png: no such file; run `omnialpha data build` again"):
        publish(broken, tmp_path / "set")
    with pytest.raises(InputError, match='"parket" is unknown; did you mean "parquet"|unknown format "parket"'):
        publish(build, tmp_path / "set", format="parket")
    (broken / "manifest.jsonl").write_text("")
    with pytest.raises(InputError, match="nothing was left to publish"):
        publish(broken, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_only_publications_are_replaced(build: Path, tmp_path: Path) -> None:
    publish(build, tmp_path / "set")
    with pytest.raises(OutputError, match="--overwrite"):
        publish(build, tmp_path / "set")
    (tmp_path / "set" / "data" / "stale").touch()
    publish(build, tmp_path / "set", overwrite=True)
    assert not (tmp_path / "set" / "data" / "stale").exists()
    with pytest.raises(OutputError, match="no published data set"):
        publish(build, build, overwrite=True)
    assert (build / "manifest.jsonl").is_file()


def test_tar_members_belong_to_nobody(build: Path, tmp_path: Path) -> None:
    publish(build, tmp_path / "set", format="webdataset")
    content = (tmp_path / "set" / "data" / "test-00000-of-00001.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}
    assert [member.name.partition(".")[2] for member in members[:8]] == [
        *(f"{name}.png" for name in shards.PICTURES),
        "json",
    ]
    assert json.loads(content[members[7].offset_data :][: members[7].size])["id"] == f"{2:032x}"
