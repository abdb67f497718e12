"""Pictures at the model's border: whatever callers hand in becomes 8-bit RGBA images, results become exact-size layers.

Inputs are resized with PIL (Lanczos, premultiplied), as the weights were trained; results are floats until the end.

Shape suffixes: H and W pixels; a tensor picture is (4, H, W), straight alpha, in [0, 1].
"""

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from omnialpha.errors import InputError
from omnialpha.imaging import rgba

logger = logging.getLogger(__name__)

Picture = Image.Image | np.ndarray | Tensor | str | Path
"""An image, a file, an array (H, W, 3 or 4) or a tensor (3 or 4, H, W); floats in [0, 1], straight alpha."""

Size = tuple[int, int]
"""Width and height in pixels, in Pillow's order."""


def as_image(picture: Picture) -> Image.Image:
    """The picture as an 8-bit "RGBA" image; opaque where it brings no alpha.

    Raises:
        ImageError: a file cannot be read, or the picture is empty or too large.
        InputError: the value is not a picture.
    """
    if isinstance(picture, str | Path):
        return rgba.read(picture)
    if isinstance(picture, Tensor):
        if picture.ndim != 3:
            raise InputError(f"a tensor picture has shape (3 or 4, H, W), received {tuple(picture.shape)}")
        picture = picture.detach().permute(1, 2, 0).float().cpu().numpy()
    if isinstance(picture, np.ndarray):
        picture = rgba.to_pil(picture)
    if not isinstance(picture, Image.Image):
        raise InputError(
            f"expected a picture (PIL image, path, array or tensor), received {type(picture).__name__}; "
            "pass images=[picture, …]"
        )
    rgba.check_size(picture.size, "the image")
    return picture if picture.mode == "RGBA" else rgba.to_pil(rgba.to_array(picture))


def as_guide(picture: Picture, slot: str) -> Image.Image:
    """The picture as a guide (alpha, trimap or mask): opaque grey, its value in the colours.

    A guide with transparency, such as a cut-out, is taken to mean its alpha channel.

    Args:
        picture: the guide.
        slot: its name in the task, for messages.

    Raises:
        ImageError: as for :func:`as_image`.
        InputError: nothing is marked, or everything is.
    """
    image = as_image(picture)
    if image.getchannel("A").getextrema() != (255, 255):
        logger.info("the %s has transparency: its alpha channel is used", slot)
    grey = rgba.guide_channel(image)
    lowest, highest = grey.getextrema()
    if highest == 0 or lowest == 255:
        state = "empty (all black)" if highest == 0 else "full (all white)"
        raise InputError(f"the {slot} is {state}; mark the object in white on black")
    return Image.merge("RGBA", (grey, grey, grey, Image.new("L", grey.size, 255)))


def resized(image: Image.Image, size: Size) -> Image.Image:
    """The image at another size; itself when it has that size already."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def to_tensor(image: Image.Image) -> Tensor:
    """An "RGBA" image as floats (4, H, W) in [0, 1]."""
    return torch.from_numpy(rgba.to_array(image)).permute(2, 0, 1)


def to_image(picture_4HW: Tensor) -> Image.Image:
    """Floats (4, H, W) in [0, 1], rounded to an 8-bit "RGBA" image."""
    return rgba.to_pil(picture_4HW.permute(1, 2, 0).float().cpu().numpy())


def resize_layers(layers: Tensor, size: Size) -> Tensor:
    """Layers (N, 4, H, W) in [0, 1] at another size, without bleeding the colour of transparent pixels."""
    width, height = size
    if tuple(layers.shape[-2:]) == (height, width):
        return layers
    alpha = layers[:, 3:]
    premultiplied = torch.cat([layers[:, :3] * alpha, alpha], dim=1)
    premultiplied = F.interpolate(premultiplied, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    alpha = premultiplied[:, 3:]
    colours = torch.where(alpha > 0, premultiplied[:, :3] / alpha.clamp(min=1e-6), 0.0).clamp(0, 1)
    return torch.cat([colours, alpha], dim=1)
