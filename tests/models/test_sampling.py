"""Sampling rules against diffusers' own, and what noise may depend on."""

import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift

import tiny
from omnialpha.errors import InputError
from omnialpha.models.latents import pack
from omnialpha.models.sampling import guide, guided_steps, initial_noise, resolution_shift

SHAPE = (2, 3, 16, 4, 6)


@pytest.mark.parametrize("num_tokens", [1, 256, 5000, 8192, 20000])
def test_shift_equals_diffusers(num_tokens: int) -> None:
    config = tiny.scheduler().config
    expected = calculate_shift(num_tokens, 256, 8192, 0.5, 0.9)
    assert resolution_shift(num_tokens, config) == pytest.approx(expected)


def test_guidance_keeps_the_norm_of_every_token_and_points_away() -> None:
    toward, away = torch.randn(2, 2, 5, 64, generator=torch.Generator().manual_seed(0))
    guided = guide(toward, away, 3.0)
    torch.testing.assert_close(guided.norm(dim=-1), toward.norm(dim=-1))
    direction = away + 3 * (toward - away)
    cosine = torch.nn.functional.cosine_similarity(guided, direction, dim=-1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    torch.testing.assert_close(guide(toward, away, 1.0), toward)


def test_seed_of_an_entry_does_not_depend_on_the_batch() -> None:
    batch = initial_noise(SHAPE, seed=5)
    for k in range(2):
        assert torch.equal(initial_noise((1, *SHAPE[1:]), seed=5 + k)[0], batch[k])
    by_hand = torch.randn(1, *SHAPE[1:], generator=torch.Generator().manual_seed(6))
    assert torch.equal(pack(by_hand)[0], batch[1])


def test_noise_may_be_given() -> None:
    noise = torch.randn(2, 3 * 2 * 3, 64)
    assert torch.equal(initial_noise(SHAPE, latents=noise, seed=1), noise)
    with pytest.raises(InputError, match=r"expected packed latents of shape \(2, 18, 64\), received \(2, 17, 64\)"):
        initial_noise(SHAPE, latents=noise[:, 1:])
    with pytest.raises(InputError, match="each of 2 batch entries, received 3"):
        initial_noise(SHAPE, generator=[torch.Generator()] * 3)


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.1, 0.75), (0.33, 0.34), (0.5, 0.5)])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_guided_steps_equal_those_of_diffusers_guider(interval: tuple[float, float], steps: int) -> None:
    start, stop = interval
    guider = ClassifierFreeGuidance(guidance_scale=4.0, start=start, stop=stop)
    expected = []
    for step in range(steps):
        guider.set_state(step=step, num_inference_steps=steps, timestep=torch.tensor(0.0))
        if guider._is_cfg_enabled():
            expected.append(step)
    assert list(guided_steps(steps, 4.0, interval)) == expected


@pytest.mark.parametrize("interval", [(-0.1, 1.0), (0.5, 0.4), (0.0, 1.1)])
def test_impossible_guidance_intervals_are_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="0 <= start <= stop <= 1"):
        guided_steps(10, 4.0, interval)
