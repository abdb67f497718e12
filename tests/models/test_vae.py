"""Opaque initialisation, the released layout and the single-frame path, against the stock diffusers classes."""

import copy
import json

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from safetensors.torch import load_file, save_file
from torch.utils.checkpoint import checkpoint

from omnialpha.errors import CheckpointError, InputError
from omnialpha.models.vae import RELEASED_CLASS, decode_frame, encode_frame, load_rgba_vae, opaque_init, single_frame


def qwen_vae(channels: int) -> AutoencoderKLQwenImage:
    torch.manual_seed(0)
    return AutoencoderKLQwenImage(
        input_channels=channels, base_dim=8, z_dim=16, dim_mult=[1, 2, 2, 2], num_res_blocks=1
    )


def sd_vae(channels: int) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        latent_channels=4,
    )


def picture(channels: int, *frame: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, channels, *frame, 32, 48, generator=generator) * 2 - 1


@torch.no_grad()
def reconstruct(vae: AutoencoderKL | AutoencoderKLQwenImage, x: torch.Tensor) -> torch.Tensor:
    return vae.decode(vae.encode(x).latent_dist.mode()).sample


@pytest.mark.parametrize(("make", "frame"), [(qwen_vae, (1,)), (sd_vae, ())], ids=["qwen", "kl"])
def test_opaque_init_keeps_rgb_ignores_alpha_and_returns_opaque(make, frame) -> None:
    rgb_vae = make(3)
    before = copy.deepcopy(rgb_vae.state_dict())
    rgba_vae = opaque_init(rgb_vae)
    x = picture(4, *frame)
    expected = reconstruct(rgb_vae, x[:, :3])

    out = reconstruct(rgba_vae, x)
    torch.testing.assert_close(out[:, :3], expected, atol=1e-6, rtol=0)
    assert torch.equal(out[:, 3], torch.ones_like(out[:, 3]))
    other_alpha = x.clone()
    other_alpha[:, 3] = -x[:, 3]
    assert torch.equal(reconstruct(rgba_vae, other_alpha), out)
    assert all(torch.equal(before[name], value) for name, value in rgb_vae.state_dict().items())


def test_opaque_init_follows_dtype_and_fast_path_of_a_saved_vae(tmp_path) -> None:
    rgba_vae = opaque_init(qwen_vae(3).half())
    assert rgba_vae.dtype == torch.float16
    rgba_vae.save_pretrained(tmp_path)
    assert AutoencoderKLQwenImage.from_pretrained(tmp_path).config.input_channels == 4


@pytest.mark.parametrize("wrong", [lambda: qwen_vae(4), lambda: torch.nn.Linear(1, 1)], ids=["rgba", "no vae"])
def test_opaque_init_refuses_what_is_no_rgb_vae(wrong) -> None:
    with pytest.raises(InputError):
        opaque_init(wrong())


def test_single_frame_equals_stock() -> None:
    stock = qwen_vae(4).eval()
    ours = single_frame(copy.deepcopy(stock))
    x = picture(4, 1)
    with torch.no_grad():
        moments, ours_moments = stock.encode(x).latent_dist.parameters, ours.encode(x).latent_dist.parameters
        torch.testing.assert_close(ours_moments, moments, atol=1e-5, rtol=0)
        z = moments.chunk(2, dim=1)[0]
        torch.testing.assert_close(ours.decode(z).sample, stock.decode(z).sample, atol=1e-5, rtol=0)
        torch.testing.assert_close(encode_frame(ours, x[:, :, 0]), moments[:, :, 0], atol=1e-5, rtol=0)
        decoded = decode_frame(ours, z[:, :, 0]).clamp(-1, 1)
        torch.testing.assert_close(decoded, stock.decode(z).sample[:, :, 0], atol=1e-5, rtol=0)


def test_single_frame_runs_no_3d_convolution() -> None:
    vae = single_frame(qwen_vae(4).eval())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        reconstruct(vae, picture(4, 1))
    weights = [event.input_shapes[1] for event in profile.events() if event.name == "aten::convolution"]
    assert weights
    assert all(len(shape) == 4 for shape in weights)


def test_video_keeps_the_stock_path() -> None:
    stock = qwen_vae(4).eval()
    ours = single_frame(copy.deepcopy(stock))
    video = picture(4, 5, batch=1)
    torch.testing.assert_close(reconstruct(ours, video), reconstruct(stock, video), atol=1e-5, rtol=0)


def test_single_frame_survives_save_and_load_deepcopy_and_dtype(tmp_path) -> None:
    vae = single_frame(single_frame(qwen_vae(4).eval()))  # twice does no harm
    x = picture(4, 1)
    expected = reconstruct(vae, x)
    vae.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == "AutoencoderKLQwenImage"
    stock = AutoencoderKLQwenImage.from_pretrained(tmp_path)
    torch.testing.assert_close(reconstruct(stock, x), expected, atol=1e-5, rtol=0)
    twin = copy.deepcopy(vae)
    with torch.no_grad():
        vae.decoder.conv_out.bias.add_(0.5)
    torch.testing.assert_close(reconstruct(twin, x), expected, atol=1e-6, rtol=0)  # not bound to the original
    half = twin.to(torch.bfloat16)
    out = reconstruct(half, x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.1, rtol=0)


def test_single_frame_trains_like_stock_also_through_checkpointing() -> None:
    stock = qwen_vae(4)
    ours = single_frame(copy.deepcopy(stock))
    x = picture(4, 1)

    def loss(vae: AutoencoderKLQwenImage, x: torch.Tensor) -> torch.Tensor:
        return vae.decode(vae.encode(x).latent_dist.mode()).sample.square().mean()

    loss(stock, x).backward()
    checkpoint(loss, ours, x, use_reentrant=False).backward()
    for (name, a), b in zip(stock.named_parameters(), ours.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-3, msg=name)


def released_folder(folder) -> AutoencoderKLQwenImage:
    """Save a VAE in the layout of the released adapter: its own class name and channel fields."""
    vae = qwen_vae(4)
    vae.save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    del config["input_channels"]
    file.write_text(json.dumps(config | {"_class_name": RELEASED_CLASS, "in_channels": 4, "out_channels": 4}))
    return vae


def test_load_rgba_vae_reads_the_released_layout_and_diffusers_own(tmp_path) -> None:
    vae = released_folder(tmp_path / "released")
    vae.save_pretrained(tmp_path / "own")
    x = picture(4, 1)
    for name in ("released", "own"):
        loaded = load_rgba_vae(tmp_path / name, dtype=torch.float32)
        torch.testing.assert_close(reconstruct(loaded, x), reconstruct(vae.eval(), x), atol=1e-5, rtol=0)
    assert load_rgba_vae(tmp_path / "own", dtype=torch.float16).dtype == torch.float16


def test_load_rgba_vae_explains_what_is_wrong(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_rgba_vae(tmp_path)
    qwen_vae(3).save_pretrained(tmp_path / "rgb")
    with pytest.raises(CheckpointError, match="input_channels 3"):
        load_rgba_vae(tmp_path / "rgb")
    released_folder(tmp_path / "torn")
    weights = tmp_path / "torn" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["encoder.conv_in.bias"]
    save_file(state, weights)
    with pytest.raises(CheckpointError, match=r"1 missing.*encoder\.conv_in\.bias"):
        load_rgba_vae(tmp_path / "torn")
