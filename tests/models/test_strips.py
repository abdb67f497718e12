"""Strips against the stock VAE on whole pictures: the same values, less memory."""

import copy
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from omnialpha.models import convolutions, strips
from omnialpha.models.vae import decode_frame, encode_frame, single_frame


def qwen_vae(**config: Any) -> AutoencoderKLQwenImage:
    torch.manual_seed(0)
    config = {"base_dim": 8, "dim_mult": [1, 2, 3, 3], "num_res_blocks": 1} | config
    return AutoencoderKLQwenImage(input_channels=4, **config).eval()


@pytest.fixture(scope="module")
def stock() -> AutoencoderKLQwenImage:
    return qwen_vae()


@pytest.fixture(scope="module")
def ours(stock: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    return single_frame(copy.deepcopy(stock))


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.rand(batch, 4, height, width, generator=generator) * 2 - 1


@torch.no_grad()
def both(vae: AutoencoderKLQwenImage, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Moments of pictures, and their means decoded."""
    moments = vae.encode(x_BCHW.unsqueeze(2)).latent_dist.parameters
    return moments, vae.decode(moments.chunk(2, dim=1)[0]).sample


def assert_equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], atol: float = 1e-5) -> None:
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (8, 120), (120, 8), (104, 72)], ids=str)
def test_strips_of_any_height_equal_the_stock_vae(stock, ours, size, monkeypatch) -> None:
    x = picture(*size)
    expected = both(stock, x)
    for rows in (2, 3, 8, 13, 40):
        monkeypatch.setattr(strips, "STRIP_BYTES", {"cpu": rows * size[1] * 8 * 4, "cuda": 0})
        assert strips.plan(ours, x)[1] == min(rows, size[0])
        assert_equal(both(ours, x), expected)


def test_small_pictures_go_together_and_large_ones_alone(stock, ours, monkeypatch) -> None:
    x = picture(32, 24, batch=5)
    expected = both(stock, x)
    for share, (pictures, rows) in {0.5: (1, 16), 1: (1, 32), 2.5: (2, 32), 9: (9, 32)}.items():
        monkeypatch.setattr(strips, "STRIP_BYTES", {"cpu": int(share * 32 * 24 * 8 * 4), "cuda": 0})
        assert strips.plan(ours, x) == (pictures, rows)
        assert strips.plan(ours, x[..., ::8, ::8], 8) == (pictures, rows)
        assert_equal(both(ours, x), expected)


def test_strips_of_paired_rows_equal_the_stock_vae(stock, monkeypatch) -> None:
    """The full-size VAE's convolutions make two rows at a time; here narrow ones do."""
    monkeypatch.setattr(convolutions, "MIN_CHANNELS", 8)
    vae = single_frame(copy.deepcopy(stock))
    x = picture(56, 40, batch=2)  # 7 rows of latents: pairs do not fit
    expected = both(stock, x)
    for rows in (2, 5, 16, 56):
        vae.enable_tiling(rows, 40)
        assert_equal(both(vae, x), expected)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that was made, in values."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.values = max(self.values, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_tiling_as_diffusers_offers_it_has_no_seams_and_bounds_every_tensor(stock) -> None:
    x = picture(256, 64)
    expected = both(stock, x)
    vae = single_frame(copy.deepcopy(stock))
    with Largest() as largest_whole:
        assert_equal(both(vae, x), expected)
    vae.enable_tiling(32, 32)
    assert strips.plan(vae, x) == (1, 16)
    with Largest() as largest_strip:
        assert_equal(both(vae, x), expected)
    assert largest_strip.values <= x.numel() < largest_whole.values / 2  # nothing is larger than the picture itself


def test_weights_that_hooks_bring_are_used_as_the_hooks_bring_them(stock) -> None:
    """Layerwise casting stores float8 and computes in float32; reading weights past the hooks would fail."""
    x = picture(16, 16)
    vaes = stock, single_frame(copy.deepcopy(stock))
    results = []
    for vae in map(copy.deepcopy, vaes):
        vae.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        assert vae.encoder.conv_in.weight.dtype == torch.float8_e4m3fn
        results.append(both(vae, x))
    assert_equal(results[1], results[0])


def test_gradients_and_inference_agree(ours) -> None:
    x = picture(24, 40)
    moments = encode_frame(ours, x)
    image = decode_frame(ours, moments.chunk(2, dim=1)[0])
    assert image.requires_grad
    with torch.no_grad():
        assert_equal((encode_frame(ours, x), decode_frame(ours, moments.chunk(2, dim=1)[0])), (moments, image))
