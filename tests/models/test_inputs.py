"""Input pictures as clean latents: each encoded once, and equal to encoding it alone."""

from unittest import mock

import pytest
import torch
from diffusers import AutoencoderKLQwenImage
from PIL import Image

import tiny
from omnialpha.models.inputs import encode_pictures
from omnialpha.models.latents import normalise, pack
from omnialpha.models.pictures import to_tensor
from omnialpha.models.vae import single_frame

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLQwenImage:
    return single_frame(tiny.rgba_vae())


@torch.no_grad()
def alone(vae: AutoencoderKLQwenImage, picture: Image.Image) -> torch.Tensor:
    """Reference: one opaque picture whose size is on the grid, through diffusers' own call."""
    x_B4THW = (to_tensor(picture) * 2 - 1)[None, :, None]
    z_BCHW = vae.encode(x_B4THW).latent_dist.mode().squeeze(2)
    return pack(normalise(z_BCHW, vae).unsqueeze(1))[0]


@torch.no_grad()
def test_pictures_are_encoded_once_and_stand_where_they_belong(vae: AutoencoderKLQwenImage) -> None:
    a, b, small = tiny.picture(0), tiny.picture(1), tiny.picture(2, (32, 16))
    entries = [[a, small], [b, small], [a, small]]
    with mock.patch.object(vae, "encode", wraps=vae.encode) as encode:
        tokens, grids = encode_pictures(vae, entries, tiny.PROFILE, CPU, torch.float32)
    assert [tuple(call.args[0].shape) for call in encode.call_args_list] == [(2, 4, 1, 32, 48), (1, 4, 1, 16, 32)]
    assert grids == [(2, 3), (1, 2)]
    assert tokens is not None
    for entry, pictures in zip(tokens, entries, strict=True):
        expected = torch.cat([alone(vae, picture) for picture in pictures])
        torch.testing.assert_close(entry, expected, atol=1e-5, rtol=0)


def test_no_pictures_no_tokens(vae: AutoencoderKLQwenImage) -> None:
    assert encode_pictures(vae, [[], []], tiny.PROFILE, CPU, torch.float32) == (None, [])
