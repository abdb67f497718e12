"""`omnialpha doctor --plan`: what a call takes for every way to hold the weights."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from omnialpha.apps.cli import app

CALL = ("--size", "64", "--steps", "4", "--device", "cpu", "--dtype", "bfloat16", "--limit", "0.00075")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny.pipeline().save_pretrained(folder)
    return folder


def cli(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["doctor", "--plan", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_plans_are_told_the_fastest_first_with_what_fits(saved: Path) -> None:
    report = json.loads(cli("--model", saved, *CALL, "--json"))
    assert report["free_gb"] == 0.0
    rows = {row["plan"]: row for row in report["plans"]}
    seconds = [row["seconds"] for row in rows.values()]
    assert seconds == sorted(seconds)
    assert {"full", "int8", "fp8_layerwise+group_offload"} <= set(rows)
    assert "nf4" not in rows  # which a CPU cannot
    assert rows["full"]["gb"] == pytest.approx(max(rows["full"]["stages_gb"].values()))
    assert not rows["full"]["fits"]
    assert rows["full+group_offload"]["fits"]


def test_the_table_says_the_same(saved: Path) -> None:
    head, *lines = cli("--model", saved, *CALL).splitlines()
    assert head.split() == ["PLAN", "GB", "SECONDS"]
    verdicts = {line.split()[0]: line.split(maxsplit=3)[-1] for line in lines[:-1]}
    assert verdicts["full"] == "does not fit"
    assert verdicts["full+group_offload"] == "fits"
    assert "0.0 GB free" in lines[-1]


def test_what_cannot_be_planned_is_refused(saved: Path) -> None:
    assert "did you mean" in cli("--model", saved, "--task", "matting_atuo", code=2)
    assert 'did you mean "train"' in cli("trian", code=2)
    assert "--size" in cli("--model", saved, "--size", "big", code=2)
