"""The joint stage: all 21 tasks are drawn, gradients reach both models, a batch equals its samples, resume is exact."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLQwenImage

import omnialpha
from corpus import make_corpus
from omnialpha.data.scenes import Corpus
from omnialpha.tasks import TASKS
from omnialpha.training.dit import MIXTURE, draw_examples, joint_loss, make_optimizers, train_joint, update_average
from omnialpha.training.nano import build_pipeline, train_tokenizer
from omnialpha.training.optim import Muon
from omnialpha.training.recipes import JointConfig, nano_joint, nano_vae, override
from omnialpha.training.state import load_state
from omnialpha.training.vae import build_vae

TINY_VAE = {"base_dim": "8", "dim_mult": "[1, 1, 1, 1]"}
TINY = {"batch_tokens": "200", "size": "32", "layers": "1", "heads": "2", "vlm_dim": "64", "vlm_layers": "1",
        "vlm_area": "1024", "steps": "4", "warmup": "2", "save_every": "1", "log_every": "1"}  # fmt: skip


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpora") / "c")


@pytest.fixture(scope="module")
def corpus(corpora):
    return Corpus(corpora, "train")


@pytest.fixture(scope="module")
def config() -> JointConfig:
    return override(nano_joint(), TINY)


@pytest.fixture
def pipeline(corpus, config):
    torch.manual_seed(0)
    vae = build_vae(override(nano_vae(), TINY_VAE))
    pipeline = build_pipeline(config, vae, train_tokenizer(corpus.words()))
    for parameter in pipeline.transformer.parameters():  # gates start at zero: nothing would flow
        torch.nn.init.normal_(parameter, std=0.1)
    return pipeline


def test_the_mixture_covers_all_21_tasks_and_each_row_shares_its_structure(corpus, config) -> None:
    assert {task for _, names in MIXTURE for task in names} == set(TASKS)
    seen = set()
    for step in range(60):
        examples = draw_examples(corpus, config, step)
        structures = {(len(example.inputs), len(example.targets)) for example in examples}
        assert len(structures) == 1
        seen |= structures
    assert {(0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (1, 3)} <= seen
    again = draw_examples(corpus, config, 59)
    assert all(np.array_equal(a.targets[0], b.targets[0]) for a, b in zip(examples, again, strict=True))


def test_gradients_reach_transformer_and_vlm_but_not_the_vae(pipeline, corpus, config) -> None:
    pipeline.vae.requires_grad_(False)
    step = next(s for s in range(50) if len(draw_examples(corpus, config, s)[0].inputs) == 1)
    joint_loss(pipeline, draw_examples(corpus, config, step), config).backward()
    for name in ("transformer", "text_encoder"):
        missing = [n for n, p in getattr(pipeline, name).named_parameters() if p.grad is None or not p.grad.any()]
        # The text path of the last block leads nowhere; adding to all keys changes no attention.
        unused = ("blocks.0.txt_", "attn.to_add_out", "attn.add_q_proj", "norm_added_q", "lm_head", "bias")
        assert not [n for n in missing if not any(part in n for part in unused)], missing
    assert all(p.grad is None for p in pipeline.vae.parameters())


def test_the_loss_of_a_batch_is_the_mean_of_its_samples_losses(pipeline, corpus, config, monkeypatch) -> None:
    # Mixed prompt lengths are padded and masked: company must not change a sample's loss.
    examples = next(batch for s in range(50) if len(batch := draw_examples(corpus, config, s)) > 2)[:3]
    assert len({len(example.prompt) for example in examples}) > 1
    noise = torch.randn(3, 10_000, generator=torch.Generator().manual_seed(2))
    rows = slice(0, 3)  # which samples of the batch the patched generators below draw for
    monkeypatch.setattr(torch, "rand", lambda n: torch.ones(n))  # nothing dropped
    monkeypatch.setattr(torch, "randn", lambda n: torch.tensor([-1.0, 0.5, 2.0])[rows])  # noise levels
    monkeypatch.setattr(torch, "randn_like", lambda x: noise[rows, : x[0].numel()].view_as(x))
    with torch.no_grad():
        together = joint_loss(pipeline, examples, config).item()
        alone = []
        for row in range(3):
            rows = slice(row, row + 1)
            alone.append(joint_loss(pipeline, examples[rows], config).item())
    assert together == pytest.approx(np.mean(alone), rel=1e-4)


def test_every_weight_is_in_exactly_one_optimizer(pipeline, config) -> None:
    modules = torch.nn.ModuleDict({"transformer": pipeline.transformer, "text_encoder": pipeline.text_encoder})
    optimizers = make_optimizers(modules, config)
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in modules.parameters())
    assert all(p.ndim == 2 for group in optimizers[0].param_groups for p in group["params"])


def test_average_follows_the_weights() -> None:
    layer = torch.nn.Linear(2, 2)
    average = {name: torch.zeros_like(value) for name, value in layer.state_dict().items()}
    update_average(average, layer, 0.75)
    torch.testing.assert_close(average["weight"], 0.25 * layer.weight)


def test_muon_moves_every_direction_by_the_same_amount() -> None:
    weight = torch.nn.Parameter(torch.zeros(16, 64))
    # A gradient whose directions differ a hundredfold in size.
    weight.grad = torch.randn(16, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, 16)[:, None]
    Muon([weight], lr=0.1).step()
    values = torch.linalg.svdvals(weight.detach()) / (0.1 * 0.2 * 64**0.5)
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_training_saves_a_pipeline_that_load_opens(pipeline, corpus, config, tmp_path) -> None:
    train_joint(config, pipeline, corpus, tmp_path)
    loaded = omnialpha.load(tmp_path / "pipeline")
    loaded.set_progress_bar_config(disable=True)
    image = np.zeros((40, 40, 3), np.uint8)
    stack = loaded(task="decomposition_auto", images=[image], num_inference_steps=2, seed=0).stacks[0]
    assert [layer.image.size for layer in stack] == [(40, 40)] * 2


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(corpora, tmp_path) -> None:
    build_vae(override(nano_vae(), TINY_VAE)).save_pretrained(tmp_path / "vae")
    assert AutoencoderKLQwenImage.from_pretrained(tmp_path / "vae").config.z_dim == 16
    settings = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]

    def command(out: str) -> list[str]:
        stage = [sys.executable, "-m", "omnialpha.training", "joint", "--corpora", str(corpora)]
        return [*stage, "--vae", str(tmp_path / "vae"), "--out", str(tmp_path / out), *settings]

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command("whole"), check=True, capture_output=True, env=environment)
    killed = subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL, env=environment)
    while load_state(tmp_path / "killed") is None and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    subprocess.run(command("killed"), check=True, capture_output=True, env=environment)
    whole, resumed = load_state(tmp_path / "whole"), load_state(tmp_path / "killed")
    assert whole is not None
    assert resumed is not None
    assert whole["step"] == resumed["step"] == 4
    for kind in ("model", "average"):
        for name, value in whole[kind].items():
            assert torch.equal(value, resumed[kind][name]), name
