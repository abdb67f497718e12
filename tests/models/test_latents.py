"""Packing against diffusers' own, and normalisation as its own inverse."""

import pytest
import torch
from diffusers import QwenImageEditPlusPipeline

import tiny
from omnialpha.errors import InputError
from omnialpha.models.latents import denormalise, normalise, pack, unpack


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("size", [(4, 6), (12, 8)])
def test_pack_equals_diffusers_layer_by_layer_and_unpack_inverts_it(num_layers: int, size: tuple[int, int]) -> None:
    height, width = size
    latents = torch.randn(2, num_layers, 16, height, width)
    tokens = pack(latents)
    expected = [QwenImageEditPlusPipeline._pack_latents(latents[:, k], 2, 16, height, width) for k in range(num_layers)]
    assert torch.equal(tokens, torch.cat(expected, dim=1))
    assert torch.equal(unpack(tokens, height, width), latents)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="5 x 4"):
        pack(torch.zeros(1, 1, 16, 5, 4))
    with pytest.raises(InputError, match="7 tokens"):
        unpack(torch.zeros(1, 7, 64), 4, 4)


def test_normalise_uses_the_statistics_of_each_channel() -> None:
    vae = tiny.rgba_vae()
    mean, std = (torch.tensor(vae.config[name]) for name in ("latents_mean", "latents_std"))
    one_deviation_above = (mean + std).view(1, 1, -1, 1, 1).expand(2, 3, -1, 4, 4)
    torch.testing.assert_close(normalise(one_deviation_above, vae), torch.ones(2, 3, 16, 4, 4))
    latents = torch.randn(2, 3, 16, 4, 4)
    torch.testing.assert_close(denormalise(normalise(latents, vae), vae), latents)
