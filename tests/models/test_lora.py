"""Adapters: what is loaded acts, what does not fit is refused, what is removed leaves nothing behind."""

from pathlib import Path

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from safetensors.torch import load_file, save_file

import tiny
from omnialpha.errors import CheckpointError, InputError
from omnialpha.models.lora import (
    ATTENTION_TARGETS,
    MLP_TARGETS,
    WEIGHTS_NAME,
    add_lora,
    fuse,
    load_lora,
    save_lora,
    unload,
)


def run(model: QwenImageTransformer2DModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model(
            hidden_states=torch.randn(1, 24, 64, generator=generator),
            encoder_hidden_states=torch.randn(1, 5, tiny.HIDDEN, generator=generator),
            timestep=torch.tensor([0.5]),
            img_shapes=[[(1, 4, 6)]],
        ).sample


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lora(tiny.with_lora(tiny.transformer()), tmp_path_factory.mktemp("adapter"))


def test_file_has_the_released_layout(adapter: Path) -> None:
    assert adapter.name == WEIGHTS_NAME
    expected = {
        f"transformer.transformer_blocks.{block}.{target}.lora_{side}.weight"
        for block in range(2)
        for target in ATTENTION_TARGETS
        for side in "AB"
    }
    assert set(load_file(adapter)) == expected


def test_load_acts_as_the_adapter_that_was_saved(adapter: Path) -> None:
    loaded = tiny.transformer()
    load_lora(loaded, adapter)
    torch.testing.assert_close(run(loaded), run(tiny.with_lora(tiny.transformer())))
    assert (run(loaded) - run(tiny.transformer())).abs().max() > 1e-3


def test_fuse_keeps_the_effect_and_unload_removes_it(adapter: Path) -> None:
    fused, unloaded = tiny.transformer(), tiny.transformer()
    load_lora(fused, adapter)
    load_lora(unloaded, adapter)
    with_adapter, names = run(fused), set(tiny.transformer().state_dict())
    fuse(fused)
    unload(unloaded)
    torch.testing.assert_close(run(fused), with_adapter, atol=1e-5, rtol=0)
    torch.testing.assert_close(run(unloaded), run(tiny.transformer()))
    assert set(fused.state_dict()) == set(unloaded.state_dict()) == names


def test_fuse_by_hand(adapter: Path) -> None:
    """Reference: W + B·A for alpha = rank."""
    state, base, fused = load_file(adapter), tiny.transformer(), tiny.transformer()
    load_lora(fused, adapter)
    fuse(fused, scale=0.5)
    name = "transformer_blocks.1.attn.to_out.0"
    update = state[f"transformer.{name}.lora_B.weight"] @ state[f"transformer.{name}.lora_A.weight"]
    torch.testing.assert_close(
        fused.get_submodule(name).weight, base.get_submodule(name).weight + 0.5 * update, atol=1e-6, rtol=0
    )


def test_a_new_adapter_changes_nothing_and_alone_is_trainable() -> None:
    model = tiny.transformer()
    add_lora(model, rank=2)
    torch.testing.assert_close(run(model), run(tiny.transformer()))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    adapted = {name.split(".lora_")[0].split(".", 2)[2] for name in trainable}
    assert adapted == set(ATTENTION_TARGETS + MLP_TARGETS)


def damaged(adapter: Path, folder: Path, change: dict[str, torch.Tensor | None]) -> Path:
    state = load_file(adapter)
    for key, value in change.items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    save_file(state, folder / WEIGHTS_NAME)
    return folder / WEIGHTS_NAME


KEY = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"transformer.transformer_blocks.0.ff.net.2.lora_A.weight": torch.zeros(2, 32)}, "ff.net.2.lora_A"),
        ({"transformer.transformer_blocks.9.attn.to_q.lora_A.weight": torch.zeros(2, 32)}, "blocks.9.attn.to_q"),
        ({"text_encoder.layers.0.q_proj.lora_A.weight": torch.zeros(2, 32)}, "text_encoder.layers.0"),
        ({KEY: torch.zeros(2, 33)}, "to_q.lora_A.weight \\(shape \\(2, 33\\)"),
        ({KEY: None}, "to_q.lora_B.weight \\(without"),
    ],
    ids=["no such layer", "no such block", "another model", "wrong shape", "half a pair"],
)
def test_keys_that_fit_nothing_are_an_error(
    adapter: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], named: str
) -> None:
    model = tiny.transformer()
    with pytest.raises(CheckpointError, match=named):
        load_lora(model, damaged(adapter, tmp_path, change))
    torch.testing.assert_close(run(model), run(tiny.transformer()))


def test_every_misfit_is_listed(adapter: Path, tmp_path: Path) -> None:
    extra = {f"transformer.x{k}.lora_A.weight": torch.zeros(2, 2) for k in range(12)}
    with pytest.raises(CheckpointError) as caught:
        load_lora(tiny.transformer(), damaged(adapter, tmp_path, dict(extra)))
    assert all(key in str(caught.value) for key in extra)


def test_misuse_says_what_to_do(adapter: Path, tmp_path: Path) -> None:
    model = tiny.transformer()
    for function in (fuse, unload):
        with pytest.raises(InputError, match="load_lora"):
            function(model)
    with pytest.raises(InputError, match='"default"'):
        save_lora(model, tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_lora(model, tmp_path / "missing.safetensors")
    load_lora(model, adapter)
    with pytest.raises(InputError, match="attached already"):
        load_lora(model, adapter)


BLOCK = "transformer_blocks.0.attn.to_q"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({f"{BLOCK}.lora_up.weight": None}, f"{BLOCK}.lora_up.weight"),
        ({f"{BLOCK}.lora_down.weight": None}, f"{BLOCK}.lora_up.weight"),
        ({f"{BLOCK}.lora_up.weight": None, f"{BLOCK}.lora_down.weight": None}, f"{BLOCK}.alpha"),
        ({f"{BLOCK}.dora_scale": torch.ones(32)}, f"{BLOCK}.dora_scale"),
        ({"transformer_blocks.9.attn.to_q.lora_down.weight": None}, "transformer_blocks.9.attn.to_q.lora_up.weight"),
    ],
    ids=["no up", "no down", "alpha alone", "DoRA", "half of another block"],
)
def test_converted_formats_are_as_strict(tmp_path: Path, change: dict[str, torch.Tensor | None], named: str) -> None:
    """Diffusers' conversion drops some of these without a word."""
    state: dict[str, torch.Tensor] = {}
    for layer in (BLOCK, "transformer_blocks.1.attn.to_q", *("transformer_blocks.9.attn.to_q",) * ("9" in named)):
        state |= {f"{layer}.lora_down.weight": torch.ones(2, 32), f"{layer}.lora_up.weight": torch.ones(32, 2)}
        state[f"{layer}.alpha"] = torch.tensor(2.0)
    state = {key: value for key, value in (state | change).items() if value is not None}
    save_file(state, tmp_path / WEIGHTS_NAME)
    model = tiny.transformer()
    with pytest.raises(CheckpointError, match=named):
        load_lora(model, tmp_path / WEIGHTS_NAME)
    torch.testing.assert_close(run(model), run(tiny.transformer()))


def test_files_that_hold_no_adapter_are_refused(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_NAME).write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="no complete LoRA file"):
        load_lora(tiny.transformer(), tmp_path / WEIGHTS_NAME)
    save_file({}, tmp_path / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match="no LoRA weights"):
        load_lora(tiny.transformer(), tmp_path / WEIGHTS_NAME)


def test_one_of_several_adapters_can_be_removed(adapter: Path) -> None:
    model = tiny.transformer()
    load_lora(model, adapter)
    once = run(model)
    load_lora(model, adapter, name="second")
    assert (run(model) - once).abs().max() > 1e-3
    with pytest.raises(InputError, match='"third"'):
        unload(model, name="third")
    unload(model, name="second")
    torch.testing.assert_close(run(model), once)
    unload(model, name="default")
    assert set(model.state_dict()) == set(tiny.transformer().state_dict())
