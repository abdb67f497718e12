"""The joint stage: what the loss is, what learns, what a batch, a part of it and several processes have in common."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import omnialpha
import tiny
from corpus import make_corpus
from omnialpha.data.groups import corpus_groups
from omnialpha.data.loader import draw_batch
from omnialpha.data.scenes import Corpus
from omnialpha.training import dit
from omnialpha.training.dit import Denoiser, flow_matching_losses, learning_rate, noise_level, trained
from omnialpha.training.encoding import encode
from omnialpha.training.nano import build_pipeline, train_tokenizer
from omnialpha.training.prepare import make_trainable
from processes import fork_group, free_port
from stage2 import lora_config, nano_config, saved, train


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpora") / "c")


@pytest.fixture(scope="module")
def rows(corpora):
    """Three examples of one structure whose instructions differ in length."""
    groups = corpus_groups(Corpus(corpora, "train"), {"matting_text": (1.0,), "removal_auto": (1.0,)}, size=32)
    batches = (draw_batch(groups, seed=0, step=step, batch_size=3) for step in range(50))
    return next(batch for batch in batches if len({len(example.prompt) for example in batch}) == 3)


def generators(seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_samples_loss_does_not_depend_on_its_company(rows) -> None:
    pipeline, config = tiny.pipeline(), lora_config(prompt_dropout="0.4")
    denoiser = Denoiser(pipeline, lambda part, dropped: encode(pipeline, part, dropped), config)
    with torch.no_grad():
        together, tasks = denoiser(rows, [1, 2, 3])
        alone = [denoiser(rows[k : k + 1], [1 + k])[0].item() for k in range(3)]
    assert tasks == tuple(example.task for example in rows)
    assert together.tolist() == pytest.approx(alone, rel=1e-4)
    assert len(set(alone)) == 3


def test_the_true_velocity_has_no_loss(rows, monkeypatch) -> None:
    pipeline = tiny.pipeline()
    encoded = encode(pipeline, rows, [False] * 3)
    clean = dit.pack(encoded.targets_BLCHW)

    def truth(transformer, noisy, inputs, sigma, prompt, shapes):
        # x_σ = (1 − σ)·x0 + σ·ε, so ε − x0 = (x_σ − x0) / σ.
        assert [z for *_, z in shapes] == [-1, 0]
        return (noisy - clean) / sigma.view(-1, 1, 1)

    monkeypatch.setattr(dit, "velocity", truth)
    with torch.no_grad():
        exact = flow_matching_losses(pipeline.transformer, encoded, generators([1, 2, 3]), lora_config(), tiny.PROFILE)
    assert exact.max() < 1e-8


def test_noise_levels_follow_the_settings() -> None:
    chance = generators(range(2000))
    uniform = torch.stack([noise_level(lora_config(), g) for g in chance])
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.03)
    assert (uniform < 0.1).float().mean().item() == pytest.approx(0.1, abs=0.03)
    normal = lora_config(timesteps="logit_normal")
    levels = torch.stack([noise_level(normal, g) for g in chance])
    assert (levels < 0.1).float().mean() < 0.03
    shifted = lora_config(timesteps="logit_normal", sigma_shift="3.0")
    assert noise_level(shifted, *generators([1])) > noise_level(normal, *generators([1]))


def test_prompts_are_dropped_with_the_chance_of_the_settings(rows) -> None:
    seen: list[bool] = []
    pipeline = tiny.pipeline()

    def encoder(part, dropped):
        seen.extend(dropped)
        return encoded

    encoded = encode(pipeline, rows[:1], [False])
    denoiser = Denoiser(pipeline, encoder, lora_config(prompt_dropout="0.25"))
    denoiser.transformer.forward = lambda hidden_states, **_: (hidden_states,)
    for seed in range(400):
        denoiser(rows[:1], [seed])
    assert np.mean(seen) == pytest.approx(0.25, abs=0.06)


def test_an_adapter_learns_and_nothing_else(rows) -> None:
    pipeline, config = tiny.pipeline(), lora_config()
    make_trainable(pipeline, config)
    denoiser = Denoiser(pipeline, lambda part, dropped: encode(pipeline, part, dropped), config)
    denoiser(rows, [1, 2, 3])[0].sum().backward()
    learning = {name for name, parameter in denoiser.named_parameters() if parameter.grad is not None}
    assert learning
    assert learning <= set(trained(denoiser))
    assert all("lora_" in name for name in trained(denoiser))
    frozen = [*pipeline.vae.parameters(), *pipeline.text_encoder.parameters()]
    assert all(parameter.grad is None for parameter in frozen)


def test_from_scratch_gradients_reach_transformer_and_vlm_but_not_the_vae(corpora, rows) -> None:
    config = nano_config()
    pipeline = build_pipeline(config, tiny.rgba_vae(), train_tokenizer(Corpus(corpora, "train").words()))
    make_trainable(pipeline, config)
    for parameter in pipeline.transformer.parameters():  # gates start at zero: nothing would flow
        torch.nn.init.normal_(parameter, std=0.1)
    denoiser = Denoiser(pipeline, lambda part, dropped: encode(pipeline, part, dropped), config)
    denoiser(rows, [1, 2, 3])[0].sum().backward()
    missing = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()]
    # The text path of the last block leads nowhere; adding to all keys changes no attention.
    unused = ("blocks.0.txt_", "attn.to_add_out", "attn.add_q_proj", "norm_added_q", "lm_head", "bias")
    assert not [name for name in missing if not any(part in name for part in unused)], missing
    assert {name.split(".")[0] for name in trained(denoiser)} == {"transformer", "text_encoder"}
    assert all(p.grad is None for p in pipeline.vae.parameters())


def test_rates_follow_the_schedule() -> None:
    constant = lora_config(learning_rate="2.0", warmup="4", steps="10")
    assert [learning_rate(constant, step) for step in (0, 3, 9)] == [0.5, 2.0, 2.0]
    falling = lora_config(learning_rate="1.0", warmup="2", steps="100", schedule="cooldown")
    assert [learning_rate(falling, step) for step in (0, 50, 80)] == [0.5, 1.0, 0.5]


def test_parts_of_a_batch_add_up_to_the_batch(corpora, tmp_path) -> None:
    weights = []
    for parts in ("1", "3"):
        config = lora_config(accumulate=parts, steps="2", optimizer="adamw", ema_decay="0")
        train(corpora, tmp_path / parts, config)
        weights.append(saved(tmp_path / parts)["model"])
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "changes"), [("samples", {}), ("tokens", {"context_parallel": "2"})])
def test_two_processes_give_the_curve_of_one(corpora, tmp_path, name, changes) -> None:
    """Whether they share the samples of a batch or the tokens of a sample, over real gloo."""
    train(corpora, tmp_path / "one", lora_config(steps="3"))

    def half() -> None:
        torch.accelerator.is_available = lambda: True  # diffusers shares tokens on GPUs only, but its code runs on gloo
        torch.accelerator.device_count = lambda: 1
        train(corpora, tmp_path / "two", lora_config(steps="3", **changes))

    pair = fork_group(half, world=2, port=free_port())
    for child in pair:
        child.join(240)
    assert [child.exitcode for child in pair] == [0, 0]
    curves = [
        [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        for folder in ("one", "two")
    ]
    for one, two in zip(*curves, strict=True):
        assert one["samples"] == two["samples"]
        for key in {key for key in one if key.startswith("loss")} | {"norm"}:
            assert two[key] == pytest.approx(one[key], rel=1e-3), key
    weights = [saved(tmp_path / folder)["model"] for folder in ("one", "two")]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-2, atol=1e-4)


def test_training_from_scratch_saves_a_pipeline_that_load_opens(corpora, tmp_path) -> None:
    config = nano_config(steps="2", validate_every="2", validate_samples="2")
    pipeline = build_pipeline(config, tiny.rgba_vae(), train_tokenizer(Corpus(corpora, "train").words()))
    train(corpora, tmp_path, config, pipeline)
    loaded = omnialpha.load(tmp_path / "pipeline")
    loaded.set_progress_bar_config(disable=True)
    image = np.zeros((40, 40, 3), np.uint8)
    stack = loaded(task="decomposition_auto", images=[image], num_inference_steps=2, seed=0).stacks[0]
    assert [layer.image.size for layer in stack] == [(40, 40)] * 2
    average = saved(tmp_path)["average"]
    for name, value in loaded.transformer.state_dict().items():
        torch.testing.assert_close(value, average[f"transformer.{name}"])
