"""The run for a GPU, with a stand-in for Python that records the commands and leaves what training would leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from omnialpha.apps.cli import app

SCRIPT = Path(__file__).resolve().parent.parent / "runs" / "nano_gpu.sh"
SAMPLES_PER_SECOND, BATCH = 400, 200  # what the stand-in says: two steps a second
STAND_IN = f"""#!{sys.executable} -SE
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
if words[:2] != ["-m", "omnialpha"]:
    os.execv(sys.executable, [sys.executable, *words])
with open(os.environ["COMMANDS"], "a") as log:
    log.write(json.dumps(words[2:]) + "\\n")
out = Path(words[words.index("-o") + 1])
out.mkdir(parents=True, exist_ok=True)
if words[3] == "publish":
    (out / "model.safetensors").write_bytes(bytes(16_000_000))
    sys.exit()
steps = max(int(word[6:]) for word in words if word.startswith("steps="))
record = dict(step=steps, samples=steps * {BATCH}, samples_per_s={SAMPLES_PER_SECOND})
(out / "log.jsonl").write_text(json.dumps(record) + "\\n")
if out.name == os.environ.get("CUT_OFF"):
    sys.exit(124)
(out / ("vae" if words[3] == "vae" else "pipeline")).mkdir()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "index.jsonl").touch()
    (tmp_path / "carry").mkdir()
    return tmp_path


def run(folder: Path, *changes: str, **environment: str) -> tuple[int, list[list[str]]]:
    """Exit status, and the commands that were run."""
    (folder / "commands").write_text("")
    given = {"PYTHON": folder / "python", "OMNIALPHA_CORPORA": folder / "corpora", "COMMANDS": folder / "commands"}
    variables = os.environ | {name: str(value) for name, value in given.items()} | environment
    result = subprocess.run(["bash", SCRIPT, folder / "out", *changes], env=variables, capture_output=True, text=True)
    return result.returncode, [json.loads(line) for line in (folder / "commands").read_text().splitlines()]


def settings(command: list[str]) -> dict[str, str]:
    return dict(command[k + 1].split("=", 1) for k, word in enumerate(command) if word == "--set")


def test_all_stages_run_for_as_many_steps_as_their_minutes_hold(folder: Path) -> None:
    status, commands = run(folder, "--set", "seed=3", MINUTES="1 2 3 4 5")
    assert status == 0
    outs = [Path(command[command.index("-o") + 1]).name for command in commands]
    stages = ["vae", "joint", "longer", "at128", "at256"]
    assert outs == [name for stage in stages for name in (f"{stage}.trial", stage)] + ["nano"]
    per_minute = 60 * SAMPLES_PER_SECOND // BATCH
    assert [int(settings(command)["steps"]) for command in commands[1:-1:2]] == [k * per_minute for k in range(1, 6)]
    assert all(settings(command)["seed"] == "3" for command in commands[:-1])
    assert [settings(command).get("size", "64") for command in commands[3:-1:2]] == ["64", "64", "128", "256"]


def test_every_command_is_one_of_the_command_line(folder: Path) -> None:
    from omnialpha.training import recipes
    from omnialpha.training.config import override

    for words in run(folder)[1]:
        command: Any = typer.main.get_command(app)
        rest = words
        while hasattr(command, "commands"):
            name, *rest = rest
            command = command.commands[name]
        assert not command.make_context(name, rest).args
        if "--recipe" in words:
            recipe = words[words.index("--recipe") + 1]
            known: dict[str, Any] = {**recipes.VAE_RECIPES, **recipes.DIT_RECIPES}
            override(known[recipe](), settings(words))


def test_a_stage_that_was_cut_off_goes_on_and_finished_ones_are_not_repeated(folder: Path) -> None:
    status, commands = run(folder, CUT_OFF="longer", CARRY=str(folder / "carry"))
    assert status == 3
    steps = settings(commands[-2])["steps"]
    assert commands[-1][1:4] == ["publish", f"{folder}/out/vae", f"{folder}/out/joint"]  # the newest finished one
    assert sorted(path.name for path in (folder / "carry").iterdir()) == ["nano.tar.part-aa", "nano.tar.part-ab"]
    status, commands = run(folder)
    assert status == 0
    assert Path(commands[0][commands[0].index("-o") + 1]).name == "longer"  # no second trial
    assert settings(commands[0])["steps"] == steps


def test_without_time_for_a_stage_nothing_is_begun(folder: Path) -> None:
    status, commands = run(folder, LIMIT="1")
    assert (status, commands) == (3, [])


def test_a_failing_stage_ends_the_run(folder: Path) -> None:
    (folder / "corpora" / "index.jsonl").unlink()
    status, _ = run(folder, CORPORA_ZIP=str(folder / "missing.zip"))
    assert status not in (0, 3)


def test_a_carried_checkpoint_replaces_the_first_stages(folder: Path) -> None:
    status, commands = run(folder, START="nano")
    assert status == 0
    first = commands[0]
    assert Path(first[first.index("-o") + 1]).name == "longer.trial"
    assert first[first.index("--model") + 1] == "nano"
