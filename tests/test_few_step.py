"""Few-step adapters: their weights add to what is attached, and steps, guidance and noise levels follow them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import omnialpha
import tiny
from omnialpha import few_step
from omnialpha.errors import CheckpointError, InputError
from omnialpha.few_step import attach, detach
from omnialpha.models import lora
from omnialpha.models.profile import Profile
from omnialpha.pipeline import OmniAlphaPipeline

LIGHTNING = "Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors"
RANK, ALPHA = 4, 1.0
PROFILE = Profile.from_dict(
    tiny.PROFILE.to_dict()
    | {"true_cfg_scale": 4.0, "task_steps": {"matting_auto": 3}, "task_cfg": {"matting_auto": 2.0}}
)


def distilled() -> dict[str, tuple[Tensor, Tensor]]:
    """Factors (down, up) of a distilled LoRA, which adapts the MLPs too."""
    generator = torch.Generator().manual_seed(7)
    layers = dict(tiny.transformer().named_modules())
    return {
        f"transformer_blocks.{block}.{target}": (
            torch.randn(RANK, layers[f"transformer_blocks.{block}.{target}"].in_features, generator=generator) / 4,
            torch.randn(layers[f"transformer_blocks.{block}.{target}"].out_features, RANK, generator=generator) / 4,
        )
        for block in range(2)
        for target in lora.ATTENTION_TARGETS + lora.MLP_TARGETS
    }


def lightning_state(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Keys as in the public files: dotted names, lora_down, lora_up, alpha."""
    state: dict[str, Tensor] = {}
    for layer, (down, up) in distilled().items():
        state |= {f"{layer}.lora_down.weight": down.to(dtype), f"{layer}.lora_up.weight": up.to(dtype)}
        state[f"{layer}.alpha"] = torch.tensor(ALPHA, dtype=dtype)
    return state


def kohya_state() -> dict[str, Tensor]:
    """kohya's names: underscores instead of dots."""
    state = {}
    for key, value in lightning_state().items():
        layer = key.rsplit(".", 1 if key.endswith(".alpha") else 2)[0]
        state[f"lora_unet_{layer.replace('.', '_')}{key.removeprefix(layer)}"] = value
    return state


def diffusers_state() -> dict[str, Tensor]:
    """diffusers' own format knows no alpha: the scale is in the weights."""
    state = {}
    for layer, (down, up) in distilled().items():
        state[f"transformer.{layer}.lora_A.weight"] = down * (ALPHA / RANK)
        state[f"transformer.{layer}.lora_B.weight"] = up
    return state


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(lightning_state(), tmp_path / LIGHTNING)
    return tmp_path / LIGHTNING


@pytest.fixture
def pipe() -> OmniAlphaPipeline:
    """A pipeline with an RGBA adapter attached."""
    pipe = tiny.pipeline(PROFILE)
    tiny.with_lora(pipe.transformer)
    return pipe


def weights_by_hand(model: torch.nn.Module, *, with_distilled: bool) -> dict[str, Tensor]:
    """W + B·A of the RGBA adapter, plus alpha / rank · up · down of the distilled one."""
    weights = {name: tensor.clone() for name, tensor in tiny.transformer().state_dict().items()}
    state = model.state_dict()
    for name in [name for name in state if name.endswith("lora_A.default.weight")]:
        layer = name.removesuffix(".lora_A.default.weight")
        weights[f"{layer}.weight"] += state[f"{layer}.lora_B.default.weight"] @ state[name]
    if with_distilled:
        for layer, (down, up) in distilled().items():
            weights[f"{layer}.weight"] += ALPHA / RANK * up @ down
    return weights


def run(model: torch.nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model(
            hidden_states=torch.randn(1, 24, 64, generator=generator),
            encoder_hidden_states=torch.randn(1, 5, tiny.HIDDEN, generator=generator),
            timestep=torch.tensor([0.5]),
            img_shapes=[[(1, 4, 6, -1)]],
        ).sample


def run_with(weights: dict[str, Tensor]) -> Tensor:
    plain = tiny.pipeline().transformer
    plain.load_state_dict(weights)
    return run(plain)


@pytest.mark.parametrize("state", [lightning_state, kohya_state, diffusers_state])
def test_the_sum_of_both_adapters_acts_and_detaching_leaves_the_first(
    pipe: OmniAlphaPipeline, tmp_path: Path, state: Any
) -> None:
    save_file(state(), tmp_path / LIGHTNING)
    both, first = (weights_by_hand(pipe.transformer, with_distilled=added) for added in (True, False))
    attach(pipe, tmp_path / LIGHTNING)
    torch.testing.assert_close(run(pipe.transformer), run_with(both), atol=1e-5, rtol=1e-4)
    detach(pipe)
    torch.testing.assert_close(run(pipe.transformer), run_with(first), atol=1e-5, rtol=1e-4)
    assert (run_with(both) - run_with(first)).abs().max() > 1e-2


def test_half_precision_files_take_the_transformers_dtype(pipe: OmniAlphaPipeline, tmp_path: Path) -> None:
    save_file(lightning_state(torch.bfloat16), tmp_path / LIGHTNING)
    attach(pipe, tmp_path / LIGHTNING)
    assert {parameter.dtype for parameter in pipe.transformer.parameters()} == {torch.float32}
    expected = run_with(weights_by_hand(pipe.transformer, with_distilled=True))
    torch.testing.assert_close(run(pipe.transformer), expected, atol=0.05, rtol=0.05)


def test_noise_levels_are_the_published_ones(pipe: OmniAlphaPipeline, file: Path) -> None:
    """Shift 3 at every resolution: σ = 3t / (1 + 2t) at t = 1, 3/4, 1/2, 1/4."""
    attach(pipe, file)
    for size in (32, 64):
        pipe(prompt="x", height=size, width=size, output_type="latent")
        assert pipe.scheduler.sigmas.tolist() == pytest.approx([1.0, 0.9, 0.75, 0.5, 0.0])
    assert pipe.scheduler.config.shift_terminal is None
    assert pipe.scheduler.config.max_shift == math.log(3)


def test_defaults_follow_the_adapter_and_come_back(pipe: OmniAlphaPipeline, file: Path) -> None:
    def settings(**options: Any) -> tuple[int, float]:
        metadata = pipe(task="matting_auto", images=tiny.picture(), seed=0, **options).stacks[0].metadata
        assert metadata is not None
        return metadata["num_inference_steps"], metadata["true_cfg_scale"]

    scheduler = dict(pipe.scheduler.config)
    assert settings() == (3, 2.0)
    attach(pipe, file)
    assert settings() == (4, 1.0)
    assert settings(num_inference_steps=2, true_cfg_scale=3.0) == (2, 3.0)
    assert pipe.profile.name == f"tiny + {file.stem}"
    detach(pipe)
    assert settings() == (3, 2.0)
    assert pipe.profile == PROFILE
    assert Profile.from_dict(pipe.config.profile) == PROFILE
    assert dict(pipe.scheduler.config) == scheduler


def test_fused_it_is_final_and_can_be_saved(pipe: OmniAlphaPipeline, file: Path, tmp_path: Path) -> None:
    attach(pipe, file)
    expected = run(pipe.transformer)
    with pytest.raises(InputError, match="fuse"):
        pipe.save_pretrained(tmp_path / "saved")
    lora.fuse(pipe.transformer)
    pipe.save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match="no adapter"):
        detach(pipe)
    again = omnialpha.load(tmp_path / "saved", device="cpu")
    torch.testing.assert_close(run(again.transformer), expected, atol=1e-5, rtol=1e-4)
    assert (again.profile.steps, again.profile.true_cfg_scale) == (4, 1.0)
    assert again.scheduler.config.shift_terminal is None


def test_load_takes_it_together_with_an_adapter(file: Path, tmp_path: Path) -> None:
    base, adapter = tiny.write_base(tmp_path / "base"), tiny.write_adapter(tmp_path / "adapter")
    pipe = omnialpha.load(base, adapter=adapter, few_step=file, device="cpu")
    assert set(pipe.transformer.peft_config) == {"default", few_step.ADAPTER_NAME}
    assert set(pipe.transformer.active_adapters()) == {"default", few_step.ADAPTER_NAME}
    assert pipe.profile.steps == 4


def test_removing_the_only_adapter_leaves_a_pipeline_that_can_be_saved(file: Path, tmp_path: Path) -> None:
    pipe = tiny.pipeline()
    attach(pipe, file)
    detach(pipe)
    assert set(pipe.transformer.state_dict()) == set(tiny.transformer().state_dict())
    pipe.save_pretrained(tmp_path / "saved")


def test_settings_beside_the_file_win(pipe: OmniAlphaPipeline, file: Path) -> None:
    settings = {"steps": 6, "true_cfg_scale": 1.5, "scheduler": {"use_dynamic_shifting": False, "shift": 2.0}}
    file.with_suffix(".json").write_text(json.dumps(settings))
    attach(pipe, file)
    assert (pipe.profile.steps, pipe.profile.true_cfg_scale) == (6, 1.5)
    assert (pipe.scheduler.config.use_dynamic_shifting, pipe.scheduler.config.shift) == (False, 2.0)
    assert pipe.scheduler.config.shift_terminal == tiny.scheduler().config.shift_terminal


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("Qwen-Image-Lightning-8steps-V2.0-bf16.safetensors", 8),
        ("Qwen-Image-Edit-2511-Lightning-4steps-V1.0-fp32.safetensors", 4),
        ("lightning_12-steps.safetensors", 12),
    ],
)
def test_steps_are_read_from_the_name(name: str, steps: int) -> None:
    assert few_step.read_settings(Path(name)).steps == steps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"step": 4}', '"steps" of 1 or more'),
        ('{"steps": 0}', '"steps" of 1 or more'),
        ('{"steps": 4, "cfg": 1}', 'unknown field "cfg"'),
        ('{"steps": 4, "scheduler": {"shift_termnal": 0.1}}', 'did you mean "shift_terminal"'),
        ("steps: 4", "not valid JSON"),
    ],
)
def test_wrong_settings_are_refused(pipe: OmniAlphaPipeline, file: Path, settings: str, message: str) -> None:
    file.with_suffix(".json").write_text(settings)
    with pytest.raises(CheckpointError, match=message):
        attach(pipe, file)
    assert pipe.profile == PROFILE


def test_misuse_says_what_to_do(pipe: OmniAlphaPipeline, file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"few_step\.attach"):
        detach(pipe)
    plain = file.rename(tmp_path / "checkpoint-1000steps.safetensors")
    with pytest.raises(CheckpointError, match='"steps": 4.*checkpoint-1000steps.json'):
        attach(pipe, plain)
    for missing in (tmp_path / "missing.safetensors", "missing.safetensors", f"{tmp_path}/a/b/c.safetensors"):
        with pytest.raises(CheckpointError, match="no such file"):
            attach(pipe, missing)
    file = plain.rename(file)
    attach(pipe, file)
    with pytest.raises(InputError, match="attached already"):
        attach(pipe, file)
    assert pipe.profile.steps == 4
