"""The input pictures of a call as the transformer reads them: clean latents in the same sequence as the noise."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKLQwenImage
from PIL import Image
from torch import Tensor

from omnialpha.models.latents import PATCH, normalise, pack
from omnialpha.models.pictures import resized, to_tensor
from omnialpha.models.profile import Profile
from omnialpha.models.prompt import grid_size
from omnialpha.models.transformer import TokenGrid


def encode_pictures(
    vae: AutoencoderKLQwenImage,
    pictures: Sequence[Sequence[Image.Image]],
    profile: Profile,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor | None, list[TokenGrid]]:
    """Encode the inputs of all batch entries; a picture that stands in several places is encoded once.

    Args:
        vae: prepared by `models.vae.single_frame`.
        pictures: the "RGBA" inputs of each entry, their number and sizes the same in all; equal ones are one object.
        profile: tells the grid of their working sizes, and whether transparent pixels keep their colour.
        device: where the VAE computes.
        dtype: of the tokens.

    Returns:
        Packed tokens (B, S, C), None without inputs, and the token rows and columns of each input.
    """
    different = {id(image): image for entry in pictures for image in entry}
    sizes = {key: grid_size(*image.size, grid=profile.grid) for key, image in different.items()}
    tokens: dict[int, Tensor] = {}
    for size in dict.fromkeys(sizes.values()):  # all pictures of a size together
        keys = [key for key in different if sizes[key] == size]
        x_N4HW = torch.stack([to_tensor(resized(different[key], size)) for key in keys])
        if profile.clean_transparent:
            x_N4HW[:, :3] *= x_N4HW[:, 3:] > 0
        x_N4HW = (x_N4HW * 2 - 1).to(device, vae.dtype)
        z_NCHW = vae.encode(x_N4HW.unsqueeze(2)).latent_dist.mode().squeeze(2)
        tokens |= zip(keys, pack(normalise(z_NCHW, vae).unsqueeze(1)).to(dtype), strict=True)
    if not tokens:
        return None, []
    token = vae.spatial_compression_ratio * PATCH
    grids = [(height // token, width // token) for width, height in (sizes[id(image)] for image in pictures[0])]
    return torch.stack([torch.cat([tokens[id(image)] for image in entry]) for entry in pictures]), grids
