"""Step caching: what is skipped and how far results move, and that nothing of it is left for the next call."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.hooks import FirstBlockCacheConfig, HookRegistry, MagCacheConfig
from diffusers.hooks.mag_cache import MagCacheBlockHook

import tiny
from omnialpha.errors import InputError
from omnialpha.models.profile import Profile
from omnialpha.models.step_cache import cache_config, magnitude_ratios, resampled, residual_norms
from omnialpha.models.transformer import with_layer_positions
from omnialpha.pipeline import OmniAlphaPipeline

STEPS, BLOCKS, BRANCHES = 8, 3, 2
EVERY_OPTION = ("first_block=1000", "magcache", "taylorseer=2")


@pytest.fixture(scope="module")
def pipe() -> OmniAlphaPipeline:
    """Ratios of 1 are those of a model whose residual never changes: MagCache skips all that it may."""
    pipe = tiny.pipeline(Profile.from_dict(tiny.PROFILE.to_dict() | {"mag_ratios": [1.0, 1.0]}))
    torch.manual_seed(0)
    transformer = QwenImageTransformer2DModel.from_config(pipe.transformer.config, num_layers=BLOCKS)
    pipe.transformer = with_layer_positions(transformer.eval())
    return pipe


@pytest.fixture
def computed(pipe: OmniAlphaPipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the blocks that compute; diffusers' hooks stand between them and their caller."""
    blocks, run = list(pipe.transformer.transformer_blocks), []
    forward = type(blocks[0]).forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        run.append(next(number for number, block in enumerate(blocks) if block is self))
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(blocks[0]), "forward", counted)
    return run


def call(pipe: OmniAlphaPipeline, step_cache: str | None = None, **options: Any) -> np.ndarray:
    given: dict[str, Any] = {
        "prompt": "x",
        "images": tiny.picture(),
        "seed": 0,
        "num_inference_steps": STEPS,
        "true_cfg_scale": 3.0,
    }
    return pipe(**given | {"output_type": "latent", "step_cache": step_cache} | options).images.numpy()


@pytest.mark.parametrize(
    ("option", "times"),
    [
        ("first_block=1000", [STEPS, 1, 1]),  # the first block decides, so it is always needed
        ("magcache", [3, 3, 3]),  # steps 0 and 1 (a fifth of 8), then one after three that are skipped: 5
        ("taylorseer=2", [5, 5, 5]),  # steps 0 and 1, then 3, 5, 7
        ("taylorseer=1", [STEPS] * BLOCKS),
        ("first_block=0", [STEPS] * BLOCKS),
    ],
)
def test_what_is_computed(pipe: OmniAlphaPipeline, computed: list[int], option: str, times: list[int]) -> None:
    full = call(pipe)
    computed.clear()
    result = call(pipe, option)
    branches = len(computed) / sum(times)  # both of guidance, one by one or as one batch
    assert branches in (1, BRANCHES)
    assert [computed.count(block) / branches for block in range(BLOCKS)] == times
    moved = np.abs(result - full).max() / np.abs(full).max()
    assert (moved == 0) if times == [STEPS] * BLOCKS else (0 < moved < 0.1)


def test_guidance_in_an_interval_begins_anew_after_it(pipe: OmniAlphaPipeline, computed: list[int]) -> None:
    """Steps 2 and 3 are guided; what was kept of step 1 must not serve for step 4."""
    call(pipe, "taylorseer=2", guidance_interval=(0.25, 0.5))
    guided = len(computed) // BLOCKS - 5  # 0 and 1; 4 and 5, 7
    assert guided in (2, 2 * BRANCHES)


@pytest.mark.parametrize("option", EVERY_OPTION)
def test_nothing_is_left_for_the_next_call(pipe: OmniAlphaPipeline, option: str) -> None:
    """State of one size or batch would not even fit the next; of one picture, it would change the next in silence."""
    untouched = vars(pipe.transformer)["forward"]
    plain, first = call(pipe), call(pipe, option)
    pictures = [[tiny.picture(k, (32, 32))] for k in range(2)]
    batch = call(pipe, option, prompt=["x", "y"], images=pictures, guidance_interval=(0.25, 0.75))
    assert len(batch) == 2

    def interrupt(pipe: Any, step: int, *_: Any) -> dict[str, torch.Tensor]:
        pipe._interrupt = step == 3
        return {}

    def fail(_pipe: Any, step: int, *_: Any) -> dict[str, torch.Tensor]:
        if step == 3:
            raise RuntimeError("stopped by the caller")
        return {}

    call(pipe, option, callback_on_step_end=interrupt)
    with pytest.raises(RuntimeError, match="stopped by the caller"):
        call(pipe, option, callback_on_step_end=fail)
    assert np.array_equal(call(pipe, option), first)
    assert np.array_equal(call(pipe), plain)
    assert not pipe.transformer.is_cache_enabled
    assert vars(pipe.transformer)["forward"] == untouched
    for module in pipe.transformer.modules():
        assert module is pipe.transformer or "forward" not in vars(module)
        assert not HookRegistry.check_if_exists_or_initialize(module).hooks


def test_results_say_how_they_were_made(pipe: OmniAlphaPipeline) -> None:
    options: dict[str, Any] = {
        "task": "matting_auto",
        "images": [tiny.picture()],
        "seed": 0,
        "num_inference_steps": STEPS,
    }
    for option in (None, "taylorseer=2"):
        metadata = pipe(**options, step_cache=option).stacks[0].metadata
        assert metadata is not None
        assert metadata["step_cache"] == option


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("first_bloc", '"first_bloc".*did you mean "first_block"'),
        ("first_block=much", "a number of 0 or more"),
        ("magcache=-1", "a number of 0 or more"),
        ("taylorseer=0", "1 or more"),
        ("taylorseer=2.5", "1 or more"),
    ],
)
def test_wrong_options_are_refused(option: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cache_config(option, STEPS, [1.0])


def test_magcache_without_ratios_names_the_command_that_measures_them() -> None:
    with pytest.raises(InputError, match="omnialpha calibrate --model"):
        call(tiny.pipeline(), "magcache")


def test_defaults_follow_the_number_of_steps() -> None:
    few, many = cache_config("first_block", 20), cache_config("first_block", 50)
    assert isinstance(few, FirstBlockCacheConfig)
    assert isinstance(many, FirstBlockCacheConfig)
    assert few.threshold > many.threshold  # steps that are further apart differ by more
    ratios = cache_config("magcache", 25, [0.99] * 50)
    assert isinstance(ratios, MagCacheConfig)
    assert torch.as_tensor(ratios.mag_ratios)[1:].tolist() == pytest.approx([0.99**2] * 24)


def test_a_transformer_that_cannot_be_cached_is_refused(pipe: OmniAlphaPipeline) -> None:
    pipe.transformer.enable_cache(FirstBlockCacheConfig())
    try:
        with pytest.raises(InputError, match="disable_cache"):
            call(pipe, "taylorseer")
    finally:
        pipe.transformer.disable_cache()
    single = tiny.pipeline()
    del single.transformer.transformer_blocks[1]
    with pytest.raises(InputError, match="two blocks"):
        call(single, "taylorseer")


def test_ratios_are_those_of_diffusers_calibration(pipe: OmniAlphaPipeline) -> None:
    """Its calibration prints at the last step and forgets: it is told of one more step and read before that."""
    tail = HookRegistry.check_if_exists_or_initialize(pipe.transformer.transformer_blocks[-1])
    per_branch: list[list[float]] = []

    def read(pipe: Any, step: int, *_: Any) -> dict[str, torch.Tensor]:
        hook = next(hook for hook in tail.hooks.values() if isinstance(hook, MagCacheBlockHook))
        states = hook.state_manager._state_cache.values()
        if step == STEPS - 1:
            per_branch.extend(list(state.calibration_ratios) for state in states)
        return {}

    pipe.transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=STEPS + 1))
    try:
        call(pipe, callback_on_step_end=read)
    finally:
        pipe.transformer.disable_cache()
    with residual_norms(pipe.transformer) as norms:
        call(pipe)
    expected = np.exp(np.log(per_branch).mean(0))
    assert magnitude_ratios(norms, STEPS) == pytest.approx(expected.tolist(), rel=1e-5)
    assert not pipe.transformer.transformer_blocks[0]._forward_pre_hooks


def test_ratios_need_whole_steps() -> None:
    for norms in ([], [torch.ones(1, 4)] * 3):
        with pytest.raises(InputError, match="2 steps"):
            magnitude_ratios(norms, 2)


def test_resampled_ratios_have_the_same_products() -> None:
    ratios = [1.0, 1.2, 0.9, 0.8, 1.1, 1.3]
    assert resampled(ratios, 6) == pytest.approx(ratios)
    assert resampled(ratios, 3) == pytest.approx([1.0, 1.2 * 0.9, 0.8 * 1.1])
    assert np.prod(resampled(ratios, 60)) == pytest.approx(np.prod(ratios))
