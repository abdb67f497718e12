"""Loading by name, from folders in both layouts, and what is said when something is missing."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import omnialpha
import tiny
from omnialpha import hub
from omnialpha.errors import CheckpointError, InputError
from omnialpha.models.profile import RELEASED
from omnialpha.pipeline import OmniAlphaPipeline


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny.pipeline().save_pretrained(folder)
    return folder


def latents(pipe: OmniAlphaPipeline, **options: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    out = pipe(
        prompt="x",
        images=[tiny.picture()],
        num_inference_steps=2,
        true_cfg_scale=1,
        seed=0,
        output_type="latent",
        **options,
    )
    return out.images


def test_base_with_adapter_gets_the_released_profile(base: Path, adapter: Path) -> None:
    pipe = omnialpha.load(base, adapter=adapter, device="cpu", dtype="float32")
    assert pipe.profile == RELEASED
    assert pipe.vae.config.input_channels == 4
    assert torch.equal(pipe.vae.encoder.conv_in.weight, tiny.rgba_vae(seed=1).encoder.conv_in.weight)
    assert pipe.image_processor.patch_size == 14
    assert list(pipe.transformer.peft_config) == ["default"]
    assert not pipe.transformer.training
    assert latents(pipe).isfinite().all()


def test_adapter_may_hold_the_vae_alone(base: Path, adapter: Path, tmp_path: Path) -> None:
    plain_folder = tiny.write_adapter(tmp_path, lora=False)
    plain = omnialpha.load(base, adapter=plain_folder, device="cpu")
    assert not getattr(plain.transformer, "peft_config", {})
    with_lora = omnialpha.load(base, adapter=adapter, device="cpu")
    assert (latents(plain) - latents(with_lora)).abs().max() > 1e-3


def test_adapter_may_hold_the_lora_alone(saved: Path, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter / "lora", tmp_path / "lora")
    pipe = omnialpha.load(saved, adapter=tmp_path, device="cpu")
    assert torch.equal(pipe.vae.encoder.conv_in.weight, tiny.rgba_vae().encoder.conv_in.weight)
    assert list(pipe.transformer.peft_config) == ["default"]


@pytest.mark.parametrize("how", ["load", "from_pretrained"])
def test_saved_pipeline_comes_back_with_its_profile(saved: Path, how: str) -> None:
    pipe = omnialpha.load(str(saved), device="cpu") if how == "load" else OmniAlphaPipeline.from_pretrained(saved)
    assert pipe.profile == tiny.PROFILE
    assert pipe.image_processor.patch_size == 16
    # Not bit by bit: weights mapped from a file are aligned differently in memory.
    torch.testing.assert_close(latents(pipe), latents(tiny.pipeline()), atol=1e-5, rtol=0)


def test_base_folder_opens_although_it_lists_a_processor(base: Path) -> None:
    pipe = OmniAlphaPipeline.from_pretrained(base)
    with pytest.raises(InputError, match="3 image channels.*adapter="):
        pipe(prompt="x", images=[tiny.picture()])


def test_fused_adapter_can_be_saved_attached_one_cannot(base: Path, adapter: Path, tmp_path: Path) -> None:
    pipe = omnialpha.load(base, adapter=adapter, device="cpu")
    expected = latents(pipe)
    with pytest.raises(InputError, match="fuse"):
        pipe.save_pretrained(tmp_path)
    omnialpha.models.lora.fuse(pipe.transformer)
    pipe.save_pretrained(tmp_path)
    again = omnialpha.load(tmp_path, device="cpu")
    assert again.profile == RELEASED
    torch.testing.assert_close(latents(again), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), (torch.float16, torch.float16)])
def test_dtype(saved: Path, dtype: str | torch.dtype, expected: torch.dtype) -> None:
    pipe = omnialpha.load(saved, device="cpu", dtype=dtype)
    assert pipe.transformer.dtype == pipe.text_encoder.dtype == pipe.vae.dtype == expected


def test_half_precision_stays_close(saved: Path) -> None:
    half = omnialpha.load(saved, device="cpu", dtype="bfloat16")
    exact = omnialpha.load(saved, device="cpu", dtype="float32")
    half.set_progress_bar_config(disable=True)
    exact.set_progress_bar_config(disable=True)
    images = [pipe(prompt="x", images=[tiny.picture()], seed=0, output_type="np").images for pipe in (half, exact)]
    assert np.isfinite(images[0]).all()
    assert np.abs(images[0] - images[1]).mean() < 0.05


# --- what is said when something is wrong ---


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nanno", '"nanno"; did you mean "nano"'),
        ("Omnialfa", 'did you mean "omnialpha"'),
        ("zzz", 'expected "nano", "omnialpha", a folder'),
        ("a b/c!d", "neither a folder nor a hub id"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        omnialpha.load(name)


@pytest.mark.parametrize("name", ["./missing", "a/b/c", Path("missing"), "~/missing"])
def test_missing_folder(name: str | Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        omnialpha.load(name)


def test_embedded_checkpoint_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "EMBEDDED", tmp_path)
    with pytest.raises(CheckpointError, match="missing from .*reinstall"):
        omnialpha.load("nano")


def test_embedded_checkpoint_is_found_by_name(monkeypatch: pytest.MonkeyPatch, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "nano").symlink_to(saved)
    monkeypatch.setattr(hub, "EMBEDDED", tmp_path)
    assert omnialpha.load("nano", device="cpu").profile == tiny.PROFILE
    assert omnialpha.load(device="cpu").profile == tiny.PROFILE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cudo"}, 'unknown device "cudo"; did you mean "cuda"'),
        ({"dtype": "flaot32"}, 'unknown dtype "flaot32".*did you mean "float32"'),
    ],
)
def test_unknown_options(saved: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        omnialpha.load(saved, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_absent_gpu(saved: Path) -> None:
    with pytest.raises(InputError, match='use device="cpu"'):
        omnialpha.load(saved, device="cuda")


def test_base_without_adapter(base: Path) -> None:
    with pytest.raises(CheckpointError, match="QwenImageEditPlusPipeline.*adapter="):
        omnialpha.load(base, device="cpu")


def test_adapter_in_place_of_the_base(adapter: Path) -> None:
    with pytest.raises(CheckpointError, match="is an adapter"):
        omnialpha.load(adapter, device="cpu")


def test_empty_folders(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model_index.json"):
        omnialpha.load(tmp_path, device="cpu")
    with pytest.raises(CheckpointError, match="neither rgba_vae/ nor lora/"):
        omnialpha.load(base, adapter=tmp_path, device="cpu")


def test_missing_component(saved: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(saved, tmp_path / "broken")
    shutil.rmtree(broken / "tokenizer")
    (broken / "transformer" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer/tokenizer_config.json, transformer/config.json missing"):
        omnialpha.load(broken, device="cpu")


@pytest.mark.parametrize("component", ["transformer", "text_encoder", "vae"])
@pytest.mark.parametrize("damage", ["no file", "cut file", "key missing", "wrong shape"])
def test_damaged_weights(saved: Path, tmp_path: Path, component: str, damage: str) -> None:
    broken = shutil.copytree(saved, tmp_path / "broken")
    (file,) = (broken / component).glob("*.safetensors")
    if damage == "no file":
        file.unlink()
    elif damage == "cut file":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        state = load_file(file)
        key = max(state)
        if damage == "key missing":
            del state[key]
        else:
            state[key] = torch.zeros(3, 3)
        save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        omnialpha.load(broken, device="cpu")
    assert str(broken) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", json.dumps({"_class_name": "OmniAlphaPipeline", "profile": {"nme": "x"}})])
def test_damaged_index(saved: Path, tmp_path: Path, text: str) -> None:
    broken = shutil.copytree(saved, tmp_path / "broken")
    (broken / "model_index.json").write_text(text)
    with pytest.raises(CheckpointError):
        omnialpha.load(broken, device="cpu")
