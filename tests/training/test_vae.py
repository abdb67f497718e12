"""The VAE stage: the loss sees what it should, a killed run resumes to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from diffusers import AutoencoderKLQwenImage

from corpus import make_corpus
from omnialpha.data.scenes import Corpus
from omnialpha.training.recipes import nano_vae, override
from omnialpha.training.state import load_state, save_state
from omnialpha.training.vae import build_vae, draw_crops, reconstruction_loss, train_vae

TINY = {"steps": "6", "batch_size": "4", "crop": "16", "base_dim": "8", "dim_mult": "[1, 1, 1, 1]", "warmup": "2",
        "save_every": "2", "log_every": "2"}  # fmt: skip


def rgba(seed: int) -> torch.Tensor:
    return torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_loss_ignores_colour_under_alpha_zero_and_sees_the_rest() -> None:
    x, other = rgba(0), rgba(0)
    x[:, 3, :8] = other[:, 3, :8] = -1  # alpha 0 in the upper half
    other[:, :3, :8] = rgba(1)[:, :3, :8]
    assert reconstruction_loss(other, x) == 0
    for channel in (0, 3):
        changed = x.clone()
        changed[:, channel, 8:] += 0.1
        assert reconstruction_loss(changed, x) > 0


def test_crops_are_fixed_by_seed_and_step(tmp_path) -> None:
    corpus, config = Corpus(make_corpus(tmp_path / "c"), "train"), override(nano_vae(), TINY)
    assert torch.equal(draw_crops(corpus, config, 3), draw_crops(corpus, config, 3))
    assert not torch.equal(draw_crops(corpus, config, 3), draw_crops(corpus, config, 4))
    assert draw_crops(corpus, config, 0).shape == (4, 4, 16, 16)


def test_training_lowers_the_loss_and_measures_latents(tmp_path) -> None:
    corpus = Corpus(make_corpus(tmp_path / "c"), "train")
    config = override(nano_vae(), TINY | {"steps": "120", "batch_size": "8", "learning_rate": "2e-3"})
    x = draw_crops(corpus, config, 1000)

    def loss(vae: AutoencoderKLQwenImage) -> float:
        with torch.no_grad():
            return reconstruction_loss(vae(x.unsqueeze(2)).sample.squeeze(2), x).item()

    torch.manual_seed(0)
    untrained = loss(build_vae(config))
    train_vae(config, corpus, tmp_path / "run")
    vae = AutoencoderKLQwenImage.from_pretrained(tmp_path / "run" / "vae")
    assert loss(vae) < 0.6 * untrained
    assert vae.config.latents_std != [1.0] * 16
    assert min(vae.config.latents_std) > 0
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").open()] == list(range(2, 122, 2))


@pytest.mark.parametrize("stage", ["vae"])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, stage) -> None:
    corpora = make_corpus(tmp_path / "c")
    settings = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]

    def command(out: str) -> list[str]:
        return [sys.executable, "-m", "omnialpha.training", stage, "--corpora", str(corpora), "--out", out, *settings]

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(str(tmp_path / "whole")), check=True, capture_output=True, env=environment)
    killed = subprocess.Popen(command(str(tmp_path / "killed")), stderr=subprocess.DEVNULL, env=environment)
    while load_state(tmp_path / "killed") is None and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    subprocess.run(command(str(tmp_path / "killed")), check=True, capture_output=True, env=environment)

    whole, resumed = load_state(tmp_path / "whole"), load_state(tmp_path / "killed")
    assert whole is not None
    assert resumed is not None
    assert whole["step"] == resumed["step"] == 6
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name


def test_a_torn_state_is_passed_over(tmp_path, caplog) -> None:
    for step in (1, 2, 3):
        save_state(tmp_path, step, {"model": torch.full((100,), float(step))})
    newest = tmp_path / "step-00000003.pt"
    assert len(list(tmp_path.glob("step-*.pt"))) == 2
    newest.write_bytes(newest.read_bytes()[:200])
    state = load_state(tmp_path)
    assert state is not None
    assert state["step"] == 2
    assert "torn" in caplog.text
