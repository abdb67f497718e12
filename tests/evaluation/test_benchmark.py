"""Every benchmark on a small tree in its documented layout: what is listed, what is compared, what a model is given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import omnialpha
import tiny
import trees
from omnialpha.data.manifest import Sample, write_manifest
from omnialpha.errors import InputError
from omnialpha.evaluation.benchmark import BENCHMARKS, list_cases
from omnialpha.evaluation.cases import Case, Content, flat
from omnialpha.evaluation.harness import evaluate
from omnialpha.evaluation.plan import Plan, Source
from omnialpha.evaluation.results import Results, collect
from omnialpha.evaluation.scoring import Networks, Rules, set_scores
from omnialpha.tasks import TASKS


@pytest.fixture(scope="module")
def pipe() -> omnialpha.OmniAlphaPipeline:
    return tiny.pipeline()


@pytest.fixture
def model(pipe: omnialpha.OmniAlphaPipeline, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(omnialpha, "load", lambda name, **options: pipe, raising=False)
    return Source(model="nano", seed=3)


def read(case: Case) -> tuple[Content, list[str]]:
    notes: list[str] = []
    return case.read(notes.append), notes


def run(out: Path, **options: Any) -> Results:
    plan = Plan(**options)
    assert evaluate(plan, out)
    return collect(plan, out)


def bytes_of(array: np.ndarray) -> np.ndarray:
    return np.rint(array * 255).astype(np.uint8)


def make_manifest(root: Path) -> Path:
    samples = []
    for number, split in enumerate(("test", "train", "test")):
        opaque = np.ones((trees.HEIGHT, trees.WIDTH))
        cutouts = [trees.save(trees.cutout(number + k), root / f"{number}_fg{k}.png") for k in range(1 + number // 2)]
        background = trees.save(np.dstack([trees.colours(number + 50), opaque]), root / f"{number}_bg.png")
        captions = tuple(f"disk {number}{k}" for k in range(len(cutouts)))
        samples.append(
            Sample(
                id=f"s{number}",
                foregrounds=tuple(cutouts),
                background=background,
                captions=captions,
                background_caption="a gradient" if number == 0 else "",
                split=split,
            )
        )
    write_manifest(samples, root / "manifest.jsonl")
    return root / "manifest.jsonl"


def test_aim500_and_its_strange_mask(tmp_path: Path) -> None:
    trees.make_aim500(tmp_path)
    trees.save_multichannel(trees.soft_disk(1), tmp_path / "mask/o_02.png")
    cases = list_cases("aim500", tmp_path, {})
    assert [(case.name, case.kind) for case in cases] == [
        ("matting_auto/o_01", "matte"),
        ("matting_auto/o_02", "matte"),
    ]
    for seed, case in enumerate(cases):
        content, notes = read(case)
        np.testing.assert_array_equal(content.target, bytes_of(trees.soft_disk(seed)))
        np.testing.assert_array_equal(content.trimap, trees.trimap(seed))
        assert len(content.images) == 1
        assert notes == ["target: mask of several channels that differ, the first is used"] * seed
    guided, _ = read(list_cases("aim500", tmp_path, {"task": "matting_trimap"})[0])
    np.testing.assert_array_equal(np.asarray(guided.images[1])[..., 0], trees.trimap(0))
    with pytest.raises(InputError, match='did you mean "matting_auto"'):
        list_cases("aim500", tmp_path, {"task": "matting_atuo"})


def test_refmatte_expressions(tmp_path: Path) -> None:
    trees.make_refmatte_rw100(tmp_path)
    texts = {
        choice: {case.id: case.text for case in list_cases("refmatte_rw100", tmp_path, {"expressions": choice})}
        for choice in ("official", "last", "all")
    }
    official = json.loads((tmp_path / "eval_index_expression.json").read_text())
    assert texts["official"]["p_1_0"] == f"p_1 0 wording {official['p_1']}"
    assert texts["last"] == {"p_1_0": "p_1 0 wording 3", "p_1_1": "p_1 1 wording 3", "p_2_0": "p_2 0 wording 3"}
    assert len(texts["all"]) == 12
    assert texts["all"]["p_1_1_e2"] == "p_1 1 wording 2"
    (tmp_path / "eval_index_expression.json").unlink()
    with pytest.raises(InputError, match="official expression"):
        list_cases("refmatte_rw100", tmp_path, {})


@pytest.mark.parametrize("inverted", [False, True])
def test_rord_gives_white_for_the_object(tmp_path: Path, inverted: bool) -> None:
    trees.make_rord(tmp_path, inverted=inverted)
    content, _ = read(list_cases("rord", tmp_path, {})[1])
    mask = np.asarray(content.images[1])[..., 0]
    np.testing.assert_array_equal(mask, np.where(trees.soft_disk(1) >= 0.5, 255, 0))
    np.testing.assert_allclose(np.asarray(content.target), trees.colours(101) * 255, atol=12)  # JPEG


def test_ober_leaves_out_what_has_no_truth(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    cases = list_cases("ober", trees.make_ober(tmp_path), {"task": "removal_rough_mask"})
    contents = [read(case)[0] for case in cases]
    assert len(cases) == 2
    np.testing.assert_array_equal(contents[0].target, bytes_of(trees.colours(101)))
    assert [len(content.images) for content in contents] == [2, 2]


def test_crello_exact_layers_score_perfectly(tmp_path: Path) -> None:
    data = trees.make_crello(tmp_path / "data")
    case = list_cases("crello_layers", data, {})[0]
    content, _ = read(case)
    assert isinstance(content.target, list)
    assert (len(content.target), case.num_targets) == (3, 3)
    np.testing.assert_allclose(np.asarray(content.images[0]), flat(content.target) * 255, atol=0.51)
    results = run(
        tmp_path / "out",
        benchmark="crello_layers",
        data=data,
        source=Source(predictions=data / "layers"),
        rules=Rules(grouped=True),
    )
    means = results["tasks"]["decomposition_auto"]["means"]["native"]
    assert means["cost@0"] == {"mean": 0.0, "count": 2}
    assert means["alpha_soft_iou@5"]["mean"] == 1
    assert means["background_psnr"]["mean"] == "Infinity"
    assert means["recomposition_l1"]["mean"] < 0.003


def test_manifest_serves_what_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = list_cases("alphalayers_test", make_manifest(tmp_path), {})
    by_task = {task: [case for case in cases if case.task == task] for task in TASKS}
    # The second sample lacks the background's caption.
    assert {task for task, found in by_task.items() if len(found) == 1} == {
        task.id for task in TASKS.values() if task.text in ("background", "composite")
    }
    assert "1 samples lack what the task needs" in caplog.text
    assert {len(found) for found in by_task.values()} == {1, 2}
    first, second = by_task["decomposition_auto"]
    assert (first.num_targets, second.num_targets) == (2, 3)
    layers = read(second)[0].target
    assert isinstance(layers, list)
    # Back to front: the background, then the foreground that the manifest names last.
    np.testing.assert_allclose(layers[0][..., :3], trees.colours(52) * 255, atol=1)
    np.testing.assert_array_equal(layers[2][..., 3], bytes_of(trees.soft_disk(2)))
    kinds = {task: found[0].kind for task, found in by_task.items()}
    assert (kinds["matting_text"], kinds["removal_auto"]) == ("cutout", "picture")
    assert (kinds["text_to_image"], kinds["foreground_to_composite"]) == ("generated", "generated")
    guided = [read(case)[0].images[1] for case in (by_task["matting_trimap"][0], by_task["matting_trimap"][0])]
    assert guided[0].tobytes() == guided[1].tobytes()  # drawn the same in every run
    write_manifest([Sample(id="a", foregrounds=(tmp_path / "0_fg0.png",))], tmp_path / "train.jsonl")
    with pytest.raises(InputError, match="no sample of the split"):
        list_cases("alphalayers_test", tmp_path / "train.jsonl", {})


def test_a_model_on_all_tasks(tmp_path: Path, model: Source, pipe: omnialpha.OmniAlphaPipeline) -> None:
    """Working at its own size; each prediction can be made again alone, whatever the batch."""
    data = make_manifest(tmp_path)
    options: dict[str, Any] = {"benchmark": "alphalayers_test", "data": data, "source": model, "batch": 2}
    results = run(tmp_path / "out", **options)
    assert results["counts"]["failed"] == 0
    assert set(results["tasks"]) == set(TASKS)
    assert results["method"]["settings"]["steps"][""] == tiny.PROFILE.steps
    assert len(results["method"]["weights"]) == 16
    (record,) = [r for r in results["images"] if (r["task"], r["id"]) == ("removal_auto", "s2")]
    assert (record["native_size"], record["generation_size"]) == ([24, 20], [32, 16])
    image = read(list_cases("alphalayers_test", data, {"tasks": ("removal_auto",)})[1])[0].images[0]
    again = pipe(task="removal_auto", images=[image], seed=3, width=32, height=16).stacks[0]
    saved = np.asarray(Image.open(tmp_path / "out/predictions/removal_auto/s2.png"), np.int16)
    assert np.abs(saved - np.asarray(again[0].image)).max() <= 1
    assert len(list((tmp_path / "out/predictions/decomposition_auto/s2").iterdir())) == 3


def test_text_to_image_from_captions(tmp_path: Path, model: Source) -> None:
    trees.make_aim500(tmp_path)
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"o_01": "a disk"}))
    with pytest.raises(InputError, match="no caption for o_02"):
        list_cases("t2i", tmp_path, {"captions": captions})
    captions.write_text(json.dumps({"o_01": "a disk", "o_02": "another"}))
    results = run(tmp_path / "out", benchmark="t2i", data=tmp_path, choices={"captions": captions}, source=model)
    assert results["not_computed"] == {
        "clip_fid": "needs --clip",
        "clip_score": "needs --clip",
        "fid": "needs --inception",
    }
    assert results["counts"]["scored"] == 2


def test_set_scores_over_nine_backgrounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the distance computed here: constant pictures have no covariance, only means."""
    monkeypatch.setattr(Networks, "features", {"fid": lambda image: np.asarray(image, np.float64).mean(axis=(0, 1))})
    black, clear = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    black[..., 3] = 255
    scores = set_scores([(clear, black)] * 2, "generated", Networks())
    squares = [3 * 128**2, 0, 3 * 255**2, *[255**2] * 3, *[2 * 255**2] * 3]
    assert scores["fid"] == {"mean": pytest.approx(np.mean(squares), rel=0.02), "count": 2}
    assert set_scores([(clear, black)], "generated", Networks()) == {}
    assert set_scores([(clear, black)] * 2, "layers", Networks()) == {}


def test_names() -> None:
    assert set(BENCHMARKS) == {
        *("aim500", "refmatte_rw100", "rord", "alphalayers_test", "t2i", "completion", "ober", "crello_layers"),
        "folder",
    }
    with pytest.raises(InputError, match='did you mean "aim500"'):
        list_cases("aim-500", Path(), {})
