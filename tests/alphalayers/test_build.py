"""A whole build without models: what comes out, what is left out, and that being killed changes nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from omnialpha.alphalayers import advance as advancing
from omnialpha.alphalayers.advance import Dropped
from omnialpha.alphalayers.build import Local, Report, build
from omnialpha.alphalayers.offline import OfflineEditor
from omnialpha.alphalayers.plan import Plan
from omnialpha.alphalayers.publish import publish
from omnialpha.alphalayers.quality import Limits
from omnialpha.alphalayers.score import keep_best
from omnialpha.alphalayers.status import status
from omnialpha.alphalayers.store import Question, Store
from omnialpha.data.manifest import check_files, read_manifest
from omnialpha.errors import EndpointError, InputError
from processes import fork


def make_cutouts(folder: Path, count: int = 6, side: int = 24) -> Path:
    """Coloured blobs that no perceptual hash takes for one another."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:side, 0:side] / (side - 1) - 0.5
    for number in range(count):
        grid = Image.fromarray(rng.integers(0, 255, (5, 5, 3), np.uint8)).resize((side, side))
        alpha = np.clip((0.4 - np.hypot(x, y * rng.uniform(1, 2))) * 12, 0, 1) * 255
        Image.fromarray(np.dstack([np.asarray(grid), alpha.astype(np.uint8)])).save(folder / f"thing-{number}.png")
    return folder


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    source = make_cutouts(tmp_path_factory.mktemp("source") / "cutouts")
    (source / "thing-0.txt").write_text("a green apple")
    return Plan(source=source, size=24, limits=Limits(least_extent=8), keep=4, test=1)


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that nothing has interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(plan, out)
    return out


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fsync protects from is a loss of power, which is not tested here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def run(plan: Plan, out: Path, **options: Any) -> Report:
    report = build(plan, out, Local(plan, out, **options))
    publish(out, overwrite=True)
    return report


def tree(out: Path) -> dict[str, bytes]:
    """Every file of a build. Records say when they were made and how long it took: of them only the answers count."""
    found = {}
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(file.relative_to(out))
        found[name] = file.read_bytes()
        if name.startswith("store/") and file.suffix == ".json":
            record = json.loads(found[name])
            found[name] = json.dumps({key: record.get(key) for key in ("inputs", "result", "reason")}).encode()
    return found


def dropped(out: Path) -> list[Dropped]:
    return [Dropped(**json.loads(line)) for line in (out / "dropped.jsonl").read_text().splitlines()]


def test_the_data_set_is_whole_and_the_best(plan: Plan, whole: Path) -> None:
    samples = read_manifest(whole / "manifest.jsonl")

    assert check_files(samples) == []
    assert [sample.split for sample in samples].count("test") == 1
    scores = {}
    for line in (whole / "work" / "score.jsonl").read_text().splitlines():
        scores[json.loads(line)["id"]] = json.loads(line)["score"]
    assert len(scores) == 6
    assert {sample.id for sample in samples} == set(keep_best(scores, 4))
    ranked_out = [each for each in dropped(whole) if each.stage == "rank"]
    assert {each.id for each in ranked_out} == set(scores) - {sample.id for sample in samples}
    for sample in samples:
        with Image.open(sample.foregrounds[0]) as layer:
            masks = {path.stem: Image.open(path) for path in (whole / "masks" / sample.id).glob("*.png")}
            assert set(masks) == {"alpha", "precise", "trimap", "rough"}
            assert masks["alpha"].tobytes() == layer.getchannel("A").tobytes()
        assert sample.composite_caption == f"{sample.captions[0]}, {sample.background_caption}"
        assert Store(whole / "store").read("edit", sample.stages["edit"])["backend"] == "offline:procedural"
    texts = (whole / "work" / "caption.jsonl").read_text()
    assert '"a green apple"' in texts
    assert '"thing"' in texts


def test_another_folder_and_another_order_of_threads_give_the_same_bytes(
    plan: Plan, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = advancing._run

    def late(*arguments: Any) -> None:
        time.sleep(random.random() * 0.02)
        advance(*arguments)

    monkeypatch.setattr(advancing, "_run", late)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    run(plan, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(whole)


def test_killed_at_fifty_moments_it_ends_in_the_same_bytes_and_repeats_nothing(
    plan: Plan, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, log, expected = tmp_path / "out", tmp_path / "answers.log", tree(whole)
    put = Store.put

    def noted(store: Store, question: Question, *arguments: Any, **options: Any) -> None:
        put(store, question, *arguments, **options)
        with log.open("a") as stream:
            stream.write(f"{question.stage} {question.key}\n")

    monkeypatch.setattr(Store, "put", noted)

    def go_on() -> None:
        tqdm.set_lock(threading.RLock())  # its own is shared by forks: a child killed inside would stop all others
        run(plan, out)

    draw = random.Random(4)
    kills = finished = 0
    while kills < 50 or not finished:
        child = fork(go_on, output=tmp_path / "output")
        child.join(draw.uniform(0.02, 0.16) if kills < 50 else 60)
        if child.exitcode is None:
            child.kill()
            child.join()
            kills += 1
            assert kills <= 50, "the last build hangs"
            continue
        assert child.exitcode == 0, (tmp_path / "output").read_text()
        finished += 1
        assert tree(out) == expected
        repeated = [line for line, times in Counter(log.read_text().splitlines()).items() if times > 1]
        assert repeated == []
        if kills < 50:
            shutil.rmtree(out)
            log.unlink()


def test_a_second_build_asks_nothing_and_another_plan_asks_only_what_is_new(
    plan: Plan, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    asked: Counter[str] = Counter()
    advance = advancing._run
    monkeypatch.setattr(advancing, "_run", lambda stage, *rest: (asked.update([stage.name]), advance(stage, *rest))[1])
    run(plan, out)
    assert not asked

    run(replace(plan, keep=2, test=0), out)
    assert not asked
    fresh = tmp_path / "fresh"
    run(replace(plan, keep=2, test=0), fresh)
    ours, theirs = tree(out), tree(fresh)
    assert {name for name in ours if not name.startswith("store/")} == {n for n in theirs if not n.startswith("store/")}
    assert ours["manifest.jsonl"] == theirs["manifest.jsonl"]

    asked.clear()
    run(replace(plan, remover="opencv:telea"), out)
    assert set(asked) == {"remove", "caption_background", "score"}


def test_bad_samples_are_left_out_with_their_reasons_and_tried_again(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree(plan.source, source)
    (source / "broken.png").write_bytes((source / "thing-1.png").read_bytes()[:90])
    shutil.copy(source / "thing-1.png", source / "twin.png")
    (source / "IMG_1.png").write_bytes((source / "thing-2.png").read_bytes())
    (source / "thing-2.png").unlink()
    Image.new("RGBA", (24, 24), "red").save(source / "opaque.png")
    edit = OfflineEditor.edit

    def fail(self: OfflineEditor, sample: Any) -> Any:
        if sample.foreground_caption == "a green apple":
            raise RuntimeError("out of memory")
        return edit(self, sample)

    monkeypatch.setattr(OfflineEditor, "edit", fail)
    out = tmp_path / "out"
    whole_plan = replace(plan, source=source, keep=100, test=None)
    report = build(whole_plan, out, Local(whole_plan, out))

    found = {each.name: (each.stage, each.kind, each.reason.partition(":")[0]) for each in dropped(out)}
    assert found == {
        "folder/broken": ("collect", "failed", str(source / "broken.png")),
        "folder/twin": ("collect", "dropped", "the same pixels"),
        "folder/opaque": ("filter", "dropped", "no transparency"),
        "folder/IMG_1": ("caption", "rejected", found["folder/IMG_1"][2]),
        "folder/thing-0": ("edit", "failed", "RuntimeError"),
    }
    assert (report.entries, report.kept, report.failed) == (9, 4, 2)

    shutil.copy(source / "thing-3.png", source / "broken.png")
    Image.open(source / "broken.png").rotate(90).save(source / "broken.png")
    monkeypatch.setattr(OfflineEditor, "edit", edit)
    again = build(whole_plan, out, Local(whole_plan, out))
    assert (again.kept, again.failed) == (5, 1)
    retried = build(whole_plan, out, Local(whole_plan, out, retry_failed=True))
    assert (retried.kept, retried.failed) == (6, 0)


def test_an_endpoint_that_is_gone_ends_the_build_and_status_says_where(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, calls = OfflineEditor.edit, []

    def gone(self: OfflineEditor, sample: Any) -> Any:
        calls.append(sample)
        if len(calls) > 2:
            raise EndpointError("does not answer")
        return edit(self, sample)

    monkeypatch.setattr(OfflineEditor, "edit", gone)
    with pytest.raises(EndpointError):
        run(plan, tmp_path / "out")

    found = {each.name: (each.done, each.left, each.failed) for each in status(tmp_path / "out")}
    assert found["instruct"] == (6, 0, 0)
    assert found["edit"] == (2, 4, 0)
    assert found["remove"] == (0, None, 0)

    monkeypatch.setattr(OfflineEditor, "edit", edit)
    run(plan, tmp_path / "out")
    finished = {each.name: each for each in status(tmp_path / "out")}
    assert all(each.left == 0 for each in finished.values())
    assert (finished["rank"].done, finished["rank"].rejected) == (4, 2)
    assert finished["rank"].reasons == {"not among the best 4 of 6": 2}


def test_objects_of_one_identity_are_on_one_side(tmp_path: Path) -> None:
    source = make_cutouts(tmp_path / "corpus" / "foregrounds", count=6)
    names = ["kite", "kite", "kite", "dog", "dog", "cat"]
    records = [
        {"id": f"tests/{i}", "kind": "foreground", "path": f"foregrounds/thing-{i}.png", "caption": f"a {name}",
         "object": name, "source": "tests", "licence": "CC0", "split": "train"}
        for i, name in enumerate(names)
    ]  # fmt: skip
    (source.parent / "index.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    plan = Plan(source=source.parent, size=24, limits=Limits(least_extent=8), test=2)
    report = build(plan, tmp_path / "out", Local(plan, tmp_path / "out"))

    samples = read_manifest(tmp_path / "out" / "manifest.jsonl")
    sides = {(sample.identity, sample.split) for sample in samples}
    assert report.test in (1, 2)
    assert len(sides) == len({identity for identity, _ in sides}) == 3
    assert {sample.licence for sample in samples} == {"CC0"}


def test_impossible_plans_and_occupied_folders_are_refused(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="opencv:telea"):
        replace(plan, editor="omnialpha:nano")
    with pytest.raises(InputError, match="held out"):
        replace(plan, test=5)

    def meanwhile(function: Callable[[], object]) -> None:
        with pytest.raises(InputError, match="another build"):
            function()

    runner = Local(plan, tmp_path)
    collect = runner.collect

    def busy(records: Any) -> Any:
        meanwhile(lambda: build(plan, tmp_path, Local(plan, tmp_path)))
        return collect(records)

    runner.collect = busy  # type: ignore[method-assign]
    build(plan, tmp_path, runner)
