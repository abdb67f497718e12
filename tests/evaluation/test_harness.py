"""Runs over folders with known errors: what is scored, what fails, what is kept, what is done again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trees
from omnialpha.errors import InputError
from omnialpha.evaluation.harness import evaluate
from omnialpha.evaluation.plan import Plan, Source
from omnialpha.evaluation.results import Results, collect
from omnialpha.evaluation.scoring import Rules

COUNT = 6


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Targets and predictions whose errors grow with their number; predictions of 0 are exact."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, COUNT)
    return tmp_path


def write(folder: Path, count: int) -> None:
    for number in range(count):
        trees.save(trees.soft_disk(number), folder / f"mattes/{number:03}.png")
        trees.save(trees.soft_disk(number) * (1 - number / count), folder / f"theirs/{number:03}.png")
        trees.save(trees.trimap(number), folder / f"trimaps/{number:03}.png")


def plan(**changes: Any) -> Plan:
    options: dict[str, Any] = {"source": Source(predictions=Path("theirs")), "choices": {"kind": "matte"}} | changes
    return Plan(benchmark="folder", data=Path("mattes"), **options)


def run(out: str, **changes: Any) -> Results:
    assert evaluate(plan(**changes), Path(out))
    return collect(plan(**changes), Path(out))


def bytes_of(name: str) -> np.ndarray:
    return np.asarray(Image.open(name), np.float64) / 255


def test_values_and_means(here: Path) -> None:
    results = run("out")
    truth = [bytes_of(f"mattes/{k:03}.png") for k in range(COUNT)]
    errors = [np.abs(bytes_of(f"theirs/{k:03}.png") - truth[k]) for k in range(COUNT)]
    for record, error in zip(results["images"], errors, strict=True):
        values = record["values"]["native"]
        assert values["sad"] == pytest.approx(error.sum() / 1000)
        assert values["mse"] == pytest.approx((error**2).mean())
        assert "generation" not in record["values"]
    means = results["tasks"]["matting_auto"]["means"]["native"]
    assert means["mad"] == {"mean": pytest.approx(np.mean([e.mean() for e in errors])), "count": COUNT}
    assert results["counts"] == {"cases": COUNT, "scored": COUNT, "failed": 0, "left_out_by_limit": 0}
    assert json.loads(Path("out/results.json").read_text()) == results


def test_region_needs_and_uses_trimaps(here: Path) -> None:
    rules = Rules(region="trimap", convention="dim")
    results = run("out", rules=rules, choices={"kind": "matte", "trimaps": Path("trimaps")})
    unknown = np.asarray(Image.open("trimaps/003.png")) == 128
    error = np.abs(bytes_of("theirs/003.png") - bytes_of("mattes/003.png"))[unknown]
    assert results["images"][3]["values"]["native"]["mad"] == pytest.approx(error.mean())
    without = run("other", rules=rules)
    assert without["counts"]["failed"] == COUNT
    assert "there is no trimap" in without["failures"][0]["error"]


def test_bad_predictions_fail_alone_and_are_counted(here: Path) -> None:
    Path("theirs/000.png").unlink()
    array = bytes_of("theirs/001.png")
    Path("theirs/001.png").unlink()
    np.save("theirs/001.npy", np.where(array > 0.5, np.nan, array))
    Image.new("L", (trees.WIDTH, trees.HEIGHT * 4)).save("theirs/002.png")
    shutil.copy("theirs/003.png", "theirs/003.bmp")
    Path("theirs/notes.txt").write_text("x")
    Image.new("L", (2, 2)).save("theirs/999.png")
    results = run("out")
    assert results["counts"]["scored"] == COUNT - 4
    reasons = [failure["error"] for failure in results["failures"]]
    assert len(reasons) == 4
    for reason, text in zip(reasons, ("missing", "NaN", "not the same picture", "both"), strict=True):
        assert text in reason
    assert results["extra_files"] == ["999.png", "notes.txt"]
    errors = [np.abs(bytes_of(f"theirs/{k:03}.png") - bytes_of(f"mattes/{k:03}.png")).mean() for k in (4, 5)]
    means = results["tasks"]["matting_auto"]["means"]["native"]
    assert means["mad"] == {"mean": pytest.approx(np.mean(errors)), "count": 2}


def test_other_size_is_scored_at_both(here: Path) -> None:
    small = Image.open("theirs/004.png").resize((12, 10), Image.Resampling.BOX)
    small.save("theirs/004.png")
    results = run("out")
    record = results["images"][4]
    assert (record["native_size"], record["generation_size"]) == ([24, 20], [12, 10])
    assert record["conversions"] == ["prediction: of another size than the target, resized for the native score"]
    assert results["conversions"] == {record["conversions"][0]: 1}
    truth = Image.fromarray(bytes_of("mattes/004.png").astype(np.float32)).resize((12, 10), Image.Resampling.BILINEAR)
    expected = np.abs(np.asarray(small) / 255 - np.asarray(truth)).mean()
    assert record["values"]["generation"]["mad"] == pytest.approx(expected, abs=1e-6)
    assert record["values"]["native"]["mad"] != record["values"]["generation"]["mad"]
    others = [r["values"]["native"]["mad"] for r in results["images"] if r["id"] != "004"]
    generation = results["tasks"]["matting_auto"]["means"]["generation"]["mad"]
    assert generation == {"mean": pytest.approx(np.mean([*others, expected]), abs=1e-6), "count": COUNT}


def test_shards_together_are_the_whole_run(here: Path) -> None:
    assert not evaluate(plan(), Path("parts"), shard=(1, 2))
    with pytest.raises(InputError, match="finish the run"):
        collect(plan(), Path("parts"))
    assert evaluate(plan(), Path("elsewhere"), shard=(2, 2)) is False
    shutil.copytree("elsewhere/records", "parts/records", dirs_exist_ok=True)
    assert run("parts") == run("whole")


def test_limit_takes_the_first_and_says_what_is_left(here: Path) -> None:
    results = run("out", limit=2)
    assert [record["id"] for record in results["images"]] == ["000", "001"]
    assert results["counts"]["left_out_by_limit"] == COUNT - 2
    assert results["extra_files"] == []


def test_other_settings_are_refused_and_changed_predictions_scored_again(here: Path) -> None:
    before = run("out")
    with pytest.raises(InputError, match="another rules"):
        evaluate(plan(rules=Rules(convention="dim")), Path("out"))
    untouched = Path("out/records/matting_auto/001.json").stat().st_mtime_ns
    shutil.copy("mattes/005.png", "theirs/005.png")
    after = run("out")
    assert before["images"][5]["values"]["native"]["sad"] > 0 == after["images"][5]["values"]["native"]["sad"]
    assert Path("out/records/matting_auto/001.json").stat().st_mtime_ns == untouched


def test_failures_are_tried_again(here: Path) -> None:
    shutil.move("theirs/002.png", "away.png")
    assert run("out")["counts"]["failed"] == 1
    shutil.move("away.png", "theirs/002.png")
    assert run("out") == run("fresh")


def test_unusable_folders(here: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        run("out", source=Source(predictions=Path("nowhere")))
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"none of the 6 predictions; expected names like empty/000\.png"):
        run("out2", source=Source(predictions=Path("empty")))
    with pytest.raises(InputError, match="give one of"):
        Source()
    with pytest.raises(InputError, match="predictions and model"):
        Source(predictions=Path("theirs"), model="nano")


def test_killed_run_goes_on_and_processes_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real SIGKILL after the first records; the rest is done by two processes."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, 80)
    arguments = ["-m", "omnialpha", "eval", "folder", "mattes", "--predictions", "theirs", "-o", "out"]
    process = subprocess.Popen([sys.executable, *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"})
    records = Path("out/records/matting_auto")
    deadline = time.monotonic() + 120
    while not (records.is_dir() and any(records.glob("0*.json"))):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in records.glob("0*.json")}
    assert 0 < len(kept) < 80
    assert not Path("out/results.json").exists()
    assert evaluate(plan(), Path("out"), workers=2)
    assert {name: (records / name).stat().st_mtime_ns for name in kept} == kept
    assert collect(plan(), Path("out")) == run("whole")
