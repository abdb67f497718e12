"""The forward pass without gradients against diffusers' own, and what it may not disturb."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor

import tiny
from omnialpha.models.fast_forward import Reused, is_fast
from omnialpha.models.joint_attention import IMAGE_QKV, TEXT_QKV
from omnialpha.models.lora import load_lora, save_lora
from omnialpha.models.rope import MSRoPEBiL
from omnialpha.models.transformer import layer_shapes, velocity, with_layer_positions

GRID, S = (3, 4), 12
SHAPES = layer_shapes(GRID, 2, [GRID], "paper")
SIGMA = torch.tensor(0.4)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TARGETS, INPUTS, PROMPT = random(1, 2 * S, 64), random(1, S, 64, seed=1), random(1, 7, tiny.HIDDEN, seed=2)


@pytest.fixture
def fast() -> QwenImageTransformer2DModel:
    return with_layer_positions(tiny.transformer())


def stock() -> QwenImageTransformer2DModel:
    """The same weights with layer positions and nothing else of ours."""
    model = tiny.transformer()
    model.pos_embed = MSRoPEBiL(model.config.axes_dims_rope)
    assert not is_fast(model)
    return model


@torch.no_grad()
def predict(model: QwenImageTransformer2DModel, batch: int = 1, **changes: Any) -> Tensor:
    call: dict[str, Any] = {"sigma": SIGMA, "prompt": (PROMPT.repeat(batch, 1, 1), None), "shapes": SHAPES} | changes
    targets, inputs = (x.repeat(batch, 1, 1) for x in (TARGETS, INPUTS))
    return velocity(model, targets, inputs, **call)


def assert_equal(received: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(received, expected, atol=2e-6, rtol=1e-5)


MASK = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"batch": 2, "prompt": (random(2, 7, tiny.HIDDEN), MASK)},
        {"batch": 2, "sigma": torch.tensor([0.3, 0.9])},
        {"batch": 2, "sigma": torch.tensor([0.3, 0.9]), "prompt": (random(2, 7, tiny.HIDDEN), MASK)},
    ],
    ids=["plain", "padded", "two noise levels", "both"],
)
def test_equals_diffusers(fast: QwenImageTransformer2DModel, call: dict[str, Any]) -> None:
    expected = predict(stock(), **call)
    assert_equal(predict(fast, **call), expected)
    assert expected.abs().max() > 0.1


def test_a_loop_reuses_rotations_and_modulation(fast: QwenImageTransformer2DModel) -> None:
    sigmas = torch.tensor([0.9, 0.4, 0.1])
    reused, embedded = Reused(timesteps=sigmas), []
    fast.transformer_blocks[0].img_mod.register_forward_hook(lambda _module, args, _out: embedded.append(len(args[0])))
    for step, sigma in enumerate(sigmas):
        reused.step = step
        assert_equal(predict(fast, sigma=sigma, reused=reused), predict(stock(), sigma=sigma))
    assert embedded == [3]
    assert list(reused.rotations) == [7]


def test_two_branches_as_one_batch_attend_to_their_own_words(fast: QwenImageTransformer2DModel) -> None:
    prompts = random(2, 7, tiny.HIDDEN)
    prompts[1, 4:] = 99.0  # padding that would show
    reused = Reused(timesteps=SIGMA.view(1), text_lengths=(7, 4))
    for model in (fast, hooked(fast)):  # the general way needs a mask for the same
        both = predict(model, prompt=(prompts, None), reused=reused)
        for branch, length in enumerate((7, 4)):
            alone = predict(stock(), prompt=(prompts[branch : branch + 1, :length], None))
            assert_equal(both[branch : branch + 1], alone)


def hooked(model: QwenImageTransformer2DModel) -> QwenImageTransformer2DModel:
    """A copy whose attention somebody watches."""
    model = copy.deepcopy(model)
    for block in model.transformer_blocks:
        block.attn.register_forward_hook(lambda *_: None)
    return model


def test_watched_attention_is_called(fast: QwenImageTransformer2DModel) -> None:
    calls: list[None] = []
    for block in fast.transformer_blocks:
        block.attn.register_forward_hook(lambda *_: calls.append(None))
    assert_equal(predict(fast), predict(stock()))
    assert len(calls) == len(fast.transformer_blocks)


def test_the_last_block_works_for_the_targets_alone(fast: QwenImageTransformer2DModel) -> None:
    tokens: list[int] = []
    for block in fast.transformer_blocks:
        block.img_mlp.register_forward_hook(lambda _module, args, _out: tokens.append(args[0].shape[1]))
    text_layer = fast.transformer_blocks[-1].txt_mlp
    text_layer.register_forward_hook(lambda *_: pytest.fail("nothing reads the last block's text"))
    predict(fast)
    assert tokens == [3 * S, 2 * S]


def test_who_watches_a_block_sees_all_tokens(fast: QwenImageTransformer2DModel) -> None:
    """Step caches subtract what enters the first block from what leaves the last."""
    shapes: list[tuple[torch.Size, torch.Size]] = []

    def watch(_module: Any, _args: Any, kwargs: dict[str, Tensor], output: tuple[Tensor, Tensor]) -> None:
        shapes.append((kwargs["hidden_states"].shape, output[1].shape))

    for block in fast.transformer_blocks:
        block.register_forward_hook(watch, with_kwargs=True)
    prompts = random(2, 7, tiny.HIDDEN)
    predict(fast, prompt=(prompts, None))
    assert shapes == [(torch.Size([2, 3 * S, 32]),) * 2] * 2


def test_an_adapter_attached_later_counts(fast: QwenImageTransformer2DModel, tmp_path: Path) -> None:
    """Also after calls that multiplied query, key and value as one."""
    adapted = tiny.with_lora(stock())
    file = save_lora(adapted, tmp_path)
    before = predict(fast)
    load_lora(fast, file)
    scales: list[dict[str, Any]] = [{}, {"attention_kwargs": {"scale": 0.5}}]
    for options in scales:
        assert_equal(predict(fast, **options), predict(adapted, **options))
    assert (predict(fast) - before).abs().max() > 1e-3


def test_query_key_and_value_share_memory_and_stay_what_they_are(
    fast: QwenImageTransformer2DModel, tmp_path: Path
) -> None:
    expected = predict(stock())
    predict(fast)
    for block in fast.transformer_blocks:
        for names in (IMAGE_QKV, TEXT_QKV):
            weights = [getattr(block.attn, name).weight for name in names]
            assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
    for name, value in tiny.transformer().state_dict().items():
        assert torch.equal(fast.state_dict()[name], value)
    fast.save_pretrained(tmp_path)
    loaded = QwenImageTransformer2DModel.from_pretrained(tmp_path)
    assert_equal(predict(with_layer_positions(loaded)), expected)
    assert_equal(predict(copy.deepcopy(fast)), expected)
    there_and_back = fast.to(torch.float64).to(torch.float32)  # each weight is moved by itself
    assert_equal(predict(there_and_back), expected)


def test_weights_changed_after_a_call_count(fast: QwenImageTransformer2DModel) -> None:
    before = predict(fast)
    other = tiny.transformer(seed=1)
    fast.load_state_dict(other.state_dict())
    other.pos_embed = MSRoPEBiL(other.config.axes_dims_rope)
    assert_equal(predict(fast), predict(other))
    assert (predict(fast) - before).abs().max() > 1e-3


def test_gradients_are_diffusers_own(fast: QwenImageTransformer2DModel) -> None:
    predict(fast)
    grads = []
    for model in (fast, stock()):
        velocity(model, TARGETS, INPUTS, SIGMA, (PROMPT, None), SHAPES).square().mean().backward()
        grads.append(model.transformer_blocks[0].attn.to_k.weight.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_attention_backends_agree(fast: QwenImageTransformer2DModel, backend: str) -> None:
    expected = predict(stock())
    fast.set_attention_backend(backend)
    try:
        assert_equal(predict(fast), expected)
    finally:
        fast.set_attention_backend("native")  # diffusers sets it for everybody


@pytest.mark.gpu
@pytest.mark.parametrize(
    "backend", ["_native_cudnn", "_native_flash", "_native_efficient", "flash", "_flash_3", "sage"]
)
def test_attention_backends_agree_on_a_gpu(backend: str) -> None:
    torch.manual_seed(0)
    model = QwenImageTransformer2DModel(
        num_layers=2, num_attention_heads=2, attention_head_dim=128, joint_attention_dim=tiny.HIDDEN
    )
    fast = with_layer_positions(model).to("cuda", torch.bfloat16)
    call = [x.to("cuda", torch.bfloat16) for x in (TARGETS, INPUTS, SIGMA, PROMPT)]

    @torch.no_grad()
    def run() -> Tensor:
        targets, inputs, sigma, prompt = call
        return velocity(fast, targets, inputs, sigma, (prompt, None), SHAPES).float()

    expected = run()
    try:
        fast.set_attention_backend(backend)
    except (ImportError, RuntimeError) as reason:
        pytest.skip(str(reason))
    try:
        received = run()
    finally:
        fast.set_attention_backend("native")
    tolerance = 0.1 if "sage" in backend else 0.02  # Sage attends in 8 bits
    assert (received - expected).norm() < tolerance * expected.norm()
