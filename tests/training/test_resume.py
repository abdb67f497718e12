"""A killed run, resumed, gives the bits of an uninterrupted one; torn checkpoints are passed over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from corpus import make_corpus
from omnialpha.errors import InputError
from omnialpha.training.state import save_state
from processes import fork
from stage2 import lora_config, nano_config, saved, train
from tiny import rgba_vae

STEPS = 6


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpora") / "c")


def newest(folder: Path) -> int:
    return max((int(file.stem.split("-")[1]) for file in folder.glob("step-*.pt")), default=0)


def assert_same(first: Any, second: Any, where: str = "") -> None:
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for place, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same(a, b, f"{where}[{place}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def test_killed_at_several_steps_and_resumed_to_the_same_bits(corpora, tmp_path) -> None:
    config = lora_config(steps=str(STEPS), keep="2")

    def run(name: str) -> None:
        train(corpora, tmp_path / name, config)

    # Each run in a process of its own, on one thread: what earlier tests left in this one could change the last bit.
    # Another number of threads does; where tensors lie, what was in that memory and flushing of tiny numbers do not.
    def complete(name: str) -> None:
        child = fork(lambda: run(name))
        child.join()
        assert child.exitcode == 0

    complete("whole")
    for limit in (1, 3, 4):
        child = fork(lambda: run("killed"))
        while newest(tmp_path / "killed") < limit and child.is_alive():
            time.sleep(0.005)
        child.kill()  # SIGKILL: wherever it is, also in the middle of writing a checkpoint
        child.join()
        assert newest(tmp_path / "killed") < STEPS
    complete("killed")
    whole, resumed = saved(tmp_path / "whole"), saved(tmp_path / "killed")
    assert whole["step"] == STEPS
    # Weights, average, the optimiser's states and steps, settings, position.
    assert_same(whole, resumed)
    assert len(list((tmp_path / "killed").glob("step-*.pt"))) == 2
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    losses = [[line.split('"samples_per_s"')[0] for line in log] for log in logs]
    assert losses[0] == losses[1]  # what was logged after the last checkpoint is not there twice


def test_a_run_from_scratch_resumes_to_the_same_bits(corpora, tmp_path) -> None:
    from omnialpha.data.scenes import Corpus
    from omnialpha.training.nano import build_pipeline, train_tokenizer

    def run(name: str, steps: str) -> None:
        config = nano_config(steps=steps, schedule="constant")
        torch.manual_seed(0)
        tokenizer = train_tokenizer(Corpus(corpora, "train").words())
        train(corpora, tmp_path / name, config, build_pipeline(config, rgba_vae(), tokenizer))

    run("whole", "3")
    run("parts", "1")
    run("parts", "3")
    assert_same(saved(tmp_path / "whole"), saved(tmp_path / "parts"))


def test_another_model_is_not_resumed(corpora, tmp_path) -> None:
    train(corpora, tmp_path, lora_config(steps="1"))
    with pytest.raises(InputError, match="another model"):
        train(corpora, tmp_path, lora_config(steps="2", ema_decay="0"))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_torn_or_damaged_state_is_passed_over_and_can_be_written_again(tmp_path, caplog, damage) -> None:
    for step in (1, 2, 3):
        save_state(tmp_path, step, {"model": torch.full((1000,), float(step))}, keep=2)
    assert sorted(file.name for file in tmp_path.glob("step-*.pt")) == ["step-00000002.pt", "step-00000003.pt"]
    file = tmp_path / "step-00000003.pt"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[:600]
    else:
        content[len(content) // 2] ^= 1  # in the middle of the numbers
    file.write_bytes(content)
    state = saved(tmp_path)
    assert state["step"] == 2
    assert "step-00000003.pt" in caplog.text
    save_state(tmp_path, 3, {"model": torch.zeros(1)}, keep=2)
    assert saved(tmp_path)["step"] == 3
