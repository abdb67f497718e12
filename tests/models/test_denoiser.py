"""The denoiser of one call: two branches in every layout, memory, and no waiting for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor

import tiny
from omnialpha.models import denoiser
from omnialpha.models.denoiser import Denoiser, one_batch_fits
from omnialpha.models.prompt import Embeddings
from omnialpha.models.sampling import guide
from omnialpha.models.transformer import layer_shapes, velocity, with_layer_positions

GRID, S, STEPS, SCALE = (3, 4), 12, 4, 3.0
SHAPES = layer_shapes(GRID, 2, [GRID], "paper")
SIGMAS = torch.tensor([1.0, 0.8, 0.5, 0.2])


@pytest.fixture(scope="module")
def transformer() -> QwenImageTransformer2DModel:
    return with_layer_positions(tiny.transformer())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, INPUTS = random(2, 2 * S, 64), random(2, S, 64, seed=1)
MASK = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
POSITIVE: Embeddings = (random(2, 6, tiny.HIDDEN, seed=2), MASK)
SHORT: Embeddings = (random(2, 3, tiny.HIDDEN, seed=3), None)
LONG: Embeddings = (random(2, 8, tiny.HIDDEN, seed=4), None)


def make(transformer: QwenImageTransformer2DModel, **options: Any) -> Denoiser:
    defaults: dict[str, Any] = {"true_cfg_scale": SCALE, "guided_steps": range(STEPS)}
    return Denoiser(transformer, INPUTS, SHAPES, SIGMAS, **defaults | options)


def rows_of(transformer: QwenImageTransformer2DModel, run: Any) -> list[int]:
    rows: list[int] = []
    hook = transformer.register_forward_hook(lambda _module, _args, output: rows.append(len(output[0])))
    run()
    hook.remove()
    return rows


@pytest.mark.parametrize("negative", [SHORT, LONG, POSITIVE], ids=["shorter", "longer", "as long"])
@torch.no_grad()
def test_one_batch_two_calls_and_the_formula_agree(
    transformer: QwenImageTransformer2DModel, negative: Embeddings
) -> None:
    one, two = make(transformer, one_batch=True), make(transformer, one_batch=False)
    for step in (0, 2):
        toward, away = (
            velocity(transformer, X, INPUTS, SIGMAS[step], prompt, SHAPES) for prompt in (POSITIVE, negative)
        )
        for denoise in (one, two):
            torch.testing.assert_close(
                denoise(X, step, POSITIVE, negative), guide(toward, away, SCALE), atol=1e-5, rtol=1e-4
            )


@torch.no_grad()
def test_guidance_acts_in_its_interval(transformer: QwenImageTransformer2DModel) -> None:
    denoise = make(transformer, one_batch=True, guided_steps=range(1, 3))
    assert rows_of(transformer, lambda: [denoise(X, step, POSITIVE, SHORT) for step in range(STEPS)]) == [2, 4, 4, 2]
    outside = denoise(X, 3, POSITIVE, SHORT)
    assert torch.equal(outside, make(transformer)(X, 3, POSITIVE))


@torch.no_grad()
def test_another_prompt_in_mid_call_counts(transformer: QwenImageTransformer2DModel) -> None:
    denoise = make(transformer, one_batch=True)
    first = denoise(X, 0, POSITIVE, SHORT)
    torch.testing.assert_close(denoise(X, 0, LONG, SHORT), make(transformer, one_batch=False)(X, 0, LONG, SHORT))
    torch.testing.assert_close(denoise(X, 0, POSITIVE, SHORT), first)


@torch.no_grad()
def test_memory_decides_about_one_batch(
    transformer: QwenImageTransformer2DModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, rows in ((10**12, [4]), (1000, [2, 2])):
        monkeypatch.setattr(denoiser, "free_memory", lambda _device, free=free: free)
        assert rows_of(transformer, lambda: make(transformer)(X, 0, POSITIVE, SHORT)) == rows


def test_the_estimate_of_memory_follows_the_work(
    transformer: QwenImageTransformer2DModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    width = transformer.inner_dim
    monkeypatch.setattr(denoiser, "free_memory", lambda _device: 2 * 12 * 100 * width * 4)
    assert one_batch_fits(transformer, 100, torch.zeros(0))
    assert not one_batch_fits(transformer, 101, torch.zeros(0))
    assert one_batch_fits(transformer, 200, torch.zeros(0, dtype=torch.bfloat16))


def test_memory_is_measured() -> None:
    assert 10**6 < denoiser.free_memory(torch.device("cpu")) < 10**15
    assert denoiser.free_memory(torch.device("meta")) == 0


@pytest.mark.parametrize("one_batch", [True, False])
@torch.no_grad()
def test_no_step_waits_for_the_device(one_batch: bool) -> None:
    """Tensors without values cannot be read, so whatever would fetch one from the device fails here."""
    transformer = with_layer_positions(tiny.transformer()).to("meta")
    scheduler = tiny.scheduler()
    scheduler.set_timesteps(sigmas=SIGMAS.tolist(), mu=0.5, device="meta")
    scheduler.set_begin_index(0)
    x, inputs = X.to("meta"), INPUTS.to("meta")
    prompts = [(embeds.to("meta"), None if mask is None else mask.to("meta")) for embeds, mask in (POSITIVE, SHORT)]
    denoise = Denoiser(
        transformer,
        inputs,
        SHAPES,
        scheduler.timesteps / 1000,
        true_cfg_scale=SCALE,
        guided_steps=range(1, STEPS),
        one_batch=one_batch,
    )
    for step, timestep in enumerate(scheduler.timesteps):
        x = scheduler.step(denoise(x, step, *prompts), timestep, x, return_dict=False)[0]
    assert x.shape == X.shape


@pytest.mark.parametrize(("fraction", "free"), [(1.0, 40 + 10), (0.5, 30 + 10), (0.1, 10)])
def test_a_process_that_is_capped_has_what_its_cap_leaves(
    monkeypatch: pytest.MonkeyPatch, fraction: float, free: int
) -> None:
    """A GPU of 100 bytes, 40 of them free; the process has reserved 20 and uses 10."""
    answers = {"memory_reserved": 20, "memory_allocated": 10, "mem_get_info": (40, 100)}
    answers["get_per_process_memory_fraction"] = fraction
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda _device, answer=answer: answer)
    assert denoiser.free_memory(torch.device("cuda")) == free
