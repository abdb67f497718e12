"""`omnialpha data preview` and `publish`; the filter with scores, and the paper's settings, through `build`."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from clip_folder import clip_folder, laion_head
from corpus import make_corpus
from finished_build import make_build
from omnialpha.alphalayers.build import Report
from omnialpha.alphalayers.plan import Plan
from omnialpha.apps.cli import app

ROOT = Path(__file__).resolve().parents[2]


def cli(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["data", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_build(tmp_path_factory.mktemp("build") / "out", samples=3, side=16)


def test_preview_is_one_file_beside_the_data(finished: Path) -> None:
    assert cli("preview", finished) == f"{finished / 'preview.html'}: 3 samples\n"
    assert cli("preview", finished, "-o", finished / "two.html", "--limit", 2).endswith("two.html: 2 samples\n")
    assert (finished / "two.html").stat().st_size < (finished / "preview.html").stat().st_size


def test_publish_writes_another_copy_and_replaces_it_only_when_told(finished: Path, tmp_path: Path) -> None:
    arguments = ("publish", finished, "-o", tmp_path / "set", "--format", "webdataset")
    assert cli(*arguments) == f"{tmp_path / 'set'}\n"
    assert sorted(file.suffix for file in (tmp_path / "set" / "data").iterdir()) == [".tar", ".tar"]
    assert "overwrite it (--overwrite)" in cli(*arguments, code=1)
    assert cli(*arguments, "--overwrite") == f"{tmp_path / 'set'}\n"
    assert 'did you mean "parquet"' in cli("publish", finished, "-o", tmp_path / "b", "--format", "parqet", code=2)


def test_cut_outs_are_chosen_by_their_looks(tmp_path: Path) -> None:
    """A tiny random CLIP and head: which half looks best is of no matter, that it is the half with higher scores is."""
    clip = clip_folder(tmp_path / "clip")
    torch.save(laion_head(clip.config.projection_dim).state_dict(), tmp_path / "head.pth")
    source, out = make_corpus(tmp_path / "corpora"), tmp_path / "out"
    line = f"laion:{tmp_path / 'clip'}#{tmp_path / 'head.pth'}"
    options = ("--least-extent", 16, "--distance", -1, "--keep-share", 0.5, "--no-publish", "--json")
    assert "name CLIP and the head with --aesthetic" in cli("build", source, out, *options, code=2)
    report = json.loads(cli("build", source, out, *options, "--aesthetic", line))
    assert (report["kept"], report["dropped"]) == (3, {"filter": 3})
    records = [json.loads(file.read_text()) for file in (out / "store" / "measure").rglob("*.json")]
    scores = {each["inputs"]["id"]: each["result"]["values"]["quality"]["aesthetic"] for each in records}
    dropped = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert {each["id"] for each in dropped} == set(sorted(scores, key=lambda name: scores[name])[:3])
    assert {each["reason"] for each in dropped} == {"not among the 50% that look best"}


def test_the_papers_settings_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    def note(plan: Plan, out: Path, runner: Any) -> Report:
        plans.append(plan)
        return Report(entries=0, kept=1, test=0, dropped={}, failed=0)

    monkeypatch.setattr("omnialpha.alphalayers.build.build", note)
    config = ROOT / "runs" / "alphalayers_paper.toml"
    cli("build", tmp_path, tmp_path / "out", "--config", config, "--no-publish", "--test", 7)
    [plan] = plans
    assert (plan.keep, plan.test, plan.limits.keep_share, plan.limits.least_extent) == (1000, 7, 0.9, 512)
    assert plan.captioner.startswith("endpoint:")
    assert plan.editor == "diffusers:Qwen/Qwen-Image-Edit-2509"
    assert plan.remover.startswith("diffusers:")
    assert plan.aesthetic is not None
    shown = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    assert tomllib.loads(shown).items() <= tomllib.loads(config.read_text(encoding="utf-8")).items()
