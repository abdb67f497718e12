"""`omnialpha train`: from folders of pictures to an adapter, and the run that makes the embedded checkpoint."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import omnialpha
import stage2
import tiny
from corpus import make_corpus
from omnialpha.apps.cli import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> Iterator[None]:
    """The commands let the processor flush tiny numbers to zero: other tests of this process must not inherit that."""
    yield
    torch.set_flush_denormal(False)


def cli(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_from_two_folders_to_a_loaded_adapter(tmp_path) -> None:
    """What docs/training.md tells a new user, on tiny pictures and a tiny model."""
    corpora = make_corpus(tmp_path / "corpora", cutouts=10, backdrops=10)
    manifest = cli(
        "train", "manifest", corpora / "foregrounds", corpora / "backgrounds", "-o", tmp_path / "data",
        "--scenes", 10, "--size", 32,
    ).strip()  # fmt: skip
    tiny.pipeline().save_pretrained(tmp_path / "base")
    settings = stage2.SMALL | {"lora_rank": "2", "steps": "2", "validate_every": "2", "validate_samples": "2",
                               "validate_steps": "2", "ema_decay": "0"}  # fmt: skip
    changes = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    common = ("--recipe", "paper_dit", "--model", tmp_path / "base", *changes)

    assert "examples" in cli("train", "cache", manifest, "-o", tmp_path / "cache", "--draws", 1, *common)
    for data, options in ((manifest, ()), (tmp_path / "cache", ("--held-out", manifest))):
        run = tmp_path / f"run-{Path(data).name}"
        out = cli("train", "dit", data, "-o", run, *options, *common)
        assert out.strip() == str(run / "adapter")
        records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert "validation/matting_mad" in records[-1]
        pipe = omnialpha.load(tmp_path / "base", adapter=run / "adapter")
        pipe.set_progress_bar_config(disable=True)
        assert pipe(task="matting_auto", images=[tiny.picture()], num_inference_steps=2).images[0][0].size == (48, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dit", "DATA", "-o", "run", "--recipe", "paper_did"], 'did you mean "paper_dit"'),
        (["dit", "DATA", "-o", "run", "--set", "stebs=1"], 'did you mean "steps"'),
        (["dit", "DATA", "-o", "run"], "--model"),
        (["vae", "DATA", "-o", "run", "--recipe", "nano_vae"], "expected a manifest"),
    ],
)
def test_wrong_use_is_one_line_with_a_remedy(tmp_path, arguments, message) -> None:
    words = [str(tmp_path / word) if word in ("DATA", "run") else word for word in arguments]
    error = cli("train", *words, code=2)
    assert message in error
    assert len(error.splitlines()) == 1


def test_broken_files_are_listed_before_the_first_step_or_skipped(tmp_path) -> None:
    corpora = make_corpus(tmp_path / "corpora")
    manifest = cli(
        "train", "manifest", corpora / "foregrounds", corpora / "backgrounds", "-o", tmp_path / "data",
        "--scenes", 3, "--size", 32,
    ).strip()  # fmt: skip
    for number in (0, 2):
        (tmp_path / "data" / "backgrounds" / f"0000{number}.png").write_bytes(b"no picture")
    tiny.pipeline().save_pretrained(tmp_path / "base")
    command = ("train", "dit", manifest, "-o", tmp_path / "run", "--model", tmp_path / "base", "--set", "steps=1")
    error = cli(*command, code=2)
    assert "00000.png" in error
    assert "00002.png" in error
    assert not (tmp_path / "run").exists()


def test_from_corpora_to_a_published_checkpoint(tmp_path) -> None:
    """The commands of runs/nano_cpu.sh in its order, with smaller networks."""
    corpora = make_corpus(tmp_path / "corpora")
    small = {"steps": "1", "batch_size": "2", "base_dim": "4", "dim_mult": "[1, 1, 1, 1]"}
    changes = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    cli("train", "vae", corpora, "--recipe", "nano_vae", "-o", tmp_path / "vae", *changes)
    small = stage2.SMALL | stage2.NANO | {"steps": "1"}
    changes = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    vae = ("--vae", tmp_path / "vae" / "vae")
    cli("train", "dit", corpora, "--recipe", "nano_joint", *vae, "-o", tmp_path / "joint", *changes)
    cli("train", "publish", tmp_path / "vae", tmp_path / "joint", "--corpora", corpora, "-o", tmp_path / "nano")
    assert omnialpha.load(tmp_path / "nano").profile.name == "nano"
    assert "| joint | 1 |" in (tmp_path / "nano" / "README.md").read_text()


@pytest.mark.slow
def test_the_nano_run_goes_from_corpora_to_a_scored_checkpoint(tmp_path) -> None:
    """runs/nano_cpu.sh for real, with few steps on a tiny corpus."""
    environment = os.environ | {
        "OMNIALPHA_CORPORA": str(make_corpus(tmp_path / "corpora")), "OMNIALPHA_COUNT": "4", "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    out = tmp_path / "nano"
    command = ["bash", ROOT / "runs" / "nano_cpu.sh", out, "--set", "steps=2"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert omnialpha.load(out / "nano").profile.name == "nano"
    card = (out / "nano" / "README.md").read_text()
    assert "| joint | 2 |" in card
    assert "| longer | 2 |" in card
    assert (out / "scores.json").is_file()
    assert Image.open(out / "scores.png").width > 100


def test_the_papers_run_says_what_it_needs(tmp_path) -> None:
    result = subprocess.run(["bash", ROOT / "runs" / "paper.sh", tmp_path], capture_output=True, text=True, env={})
    assert result.returncode != 0
    assert "set MANIFEST to the training data" in result.stderr


@pytest.mark.parametrize(("script", "count"), [("paper.sh", 4), ("nano_cpu.sh", 4)])
def test_the_runs_use_commands_that_exist(script: str, count: int) -> None:
    """Every command and option that a script writes is one of the command line's."""
    text = (ROOT / "runs" / script).read_text().replace("\\\n", " ")
    starts = ("launch train", '"$python" -m omnialpha ', "train ")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(starts)]
    assert len(lines) == count
    for line in lines:
        words = shlex.split(line.replace('"${@:2}"', "").replace('"$@"', ""))
        words = {"launch": words[1:], "train": words}.get(words[0], words[3:])
        command = typer.main.get_command(app)
        while hasattr(command, "commands"):
            name, *words = words
            command = command.commands[name]
        assert not command.make_context(name, words).args
