"""`omnialpha eval …`: commands, exit codes, files; on tiny trees, with a tiny random pipeline where a model is run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import omnialpha
import tiny
import trees
from omnialpha.apps.cli import app
from omnialpha.evaluation.pairs import read_pairs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AIM-500 and two methods' mattes of it."""
    monkeypatch.chdir(tmp_path)
    trees.make_aim500(tmp_path / "AIM-500", ("a", "b", "c"))
    for number, name in enumerate("abc"):
        trees.save(trees.soft_disk(number) * 0.9, tmp_path / f"good/{name}.png")
        trees.save(trees.soft_disk(number) * (0.5 + number / 10), tmp_path / f"bad/{name}.png")
    return tmp_path


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments])


def good(*arguments: str) -> str:
    result = cli(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_predictions_and_compare(here: Path) -> None:
    shown = good("aim500", "AIM-500", "--predictions", "good", "--convention", "dim")
    assert "Table 5 of the paper" in shown
    results = json.loads(Path("eval-aim500/results.json").read_text())
    assert results["settings"]["rules"]["convention"] == "dim"
    assert {file.name for file in Path("eval-aim500").iterdir()} >= {
        "results.json",
        "table.md",
        "table.tex",
        "index.html",
    }
    good("aim500", "AIM-500", "--predictions", "bad", "--convention", "dim", "-o", "bad-run")
    shown = good("compare", "bad-run", "eval-aim500/results.json", "-o", "compared.json")
    assert "B = good against A = bad" in shown
    compared = {entry["metric"]: entry for entry in json.loads(Path("compared.json").read_text())["differences"]}
    errors = {}
    for method in ("good", "bad"):
        pairs = [(Image.open(f"{method}/{n}.png"), Image.open(f"AIM-500/mask/{n}.png")) for n in "abc"]
        arrays = [[np.asarray(image, np.float64) / 255 for image in pair] for pair in pairs]
        errors[method] = [float(np.abs(pred - truth).mean()) for pred, truth in arrays]
    assert compared["mad"]["difference"] == pytest.approx(np.mean(errors["good"]) - np.mean(errors["bad"]))
    assert (compared["mad"]["wins"], compared["mad"]["losses"]) == (3, 0)
    good("aim500", "AIM-500", "--predictions", "bad", "-o", "aim-run")
    refused = cli("compare", "aim-run", "eval-aim500")
    assert (refused.exit_code, "rules: convention" in refused.stderr) == (2, True)
    good("compare", "aim-run", "eval-aim500", "--anyway")


def test_a_failure_is_named_and_gives_exit_code_one(here: Path) -> None:
    Path("good/b.png").unlink()
    result = cli("aim500", "AIM-500", "--predictions", "good")
    assert result.exit_code == 1
    assert "1 of 3 cases failed" in result.stderr
    assert "2 of 3 cases scored" in result.stdout


def test_shards_from_the_command_line(here: Path) -> None:
    assert "shard 2/2 is done" in good("aim500", "AIM-500", "--predictions", "good", "--shard", "2/2")
    assert "3 of 3 cases scored" in good("aim500", "AIM-500", "--predictions", "good", "--shard", "1/2")
    for wrong in ("3/2", "0/2", "2", "a/b"):
        result = cli("aim500", "AIM-500", "--predictions", "good", "--shard", wrong)
        assert (result.exit_code, "k/n" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("aim500", "AIM-500"), "give one of --predictions, --method and --model, not none"),
        (("aim500", "AIM-500", "--predictions", "good", "--model", "nano"), "not predictions and model"),
        (("aim500", "AIM-500", "--predictions", "good", "--convention", "din"), 'did you mean "dim"'),
        (("aim500", "AIM-500", "--predictions", "nowhere"), "nowhere: is no folder"),
        (("rord", "AIM-500", "--predictions", "good"), "AIM-500"),
        (("aim500", "AIM-500", "--method", "telea"), "telea does removal"),
        (("aim500", "AIM-500", "--predictions", "good", "--lpips", "x"), "LPIPS needs two files"),
        (("compare", "good", "bad"), "give a results.json"),
    ],
)
def test_wrong_use(here: Path, arguments: tuple[str, ...], message: str) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_baseline_needs_no_model(here: Path) -> None:
    good("aim500", "AIM-500", "--method", "constant:0.25", "-o", "out")
    results = json.loads(Path("out/results.json").read_text())
    truth = np.asarray(Image.open("AIM-500/mask/a.png"), np.float64) / 255
    assert results["images"][0]["values"]["native"]["mad"] == pytest.approx(np.abs(64 / 255 - truth).mean())
    assert results["method"] == {"name": "constant:0.25", "settings": {"alpha": 0.25}}
    # The predictions can be scored again by other rules, and know what made them.
    good("aim500", "AIM-500", "--predictions", "out/predictions", "--convention", "dim", "-o", "again")
    assert json.loads(Path("again/results.json").read_text())["method"] == results["method"]


def test_completion_hands_pairs_to_the_judges(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny.pipeline()
    loads: list[Any] = []

    def load(name: str, **options: Any) -> omnialpha.OmniAlphaPipeline:
        loads.append(name)
        return pipe

    monkeypatch.setattr(omnialpha, "load", load, raising=False)
    trees.save(trees.cutout(1), here / "fg.png")
    trees.save(trees.colours(5), here / "bg.png")
    line = {"id": "x", "foregrounds": ["fg.png"], "background": "bg.png", "captions": ["a disk"]}
    Path("m.jsonl").write_text(json.dumps(line | {"background_caption": "a gradient", "split": "test"}))
    for task in ("foreground_to_composite", "background_to_composite"):
        trees.save(trees.composite(1), here / f"rival/{task}/x.png")
    shown = good("completion", "m.jsonl", "--model", "nano", "--against", "rival", "-o", "out")
    assert "Table 3 of the paper" in shown
    assert "2 pairs" in shown
    pairs = read_pairs(Path("out/pairs"))
    assert [pair.id for pair in pairs] == ["foreground_to_composite.x", "background_to_composite.x"]
    assert list(pairs[0].candidates) == ["nano", "rival"]
    assert pairs[0].text == "a disk, a gradient"
    # Once more: the report is made again without the model.
    good("completion", "m.jsonl", "--model", "nano", "-o", "out")
    assert loads == ["nano"]
