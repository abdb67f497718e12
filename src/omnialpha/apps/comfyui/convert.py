"""Between ComfyUI's tensors and RGBA pictures. The only place that knows that a MASK is 1 − alpha.

ComfyUI's IMAGE is float (B, H, W, 3) or (B, H, W, 4) in [0, 1]; a MASK is float (B, H, W) or (H, W), 1 where a picture
is transparent ("Load Image") or, painted in the mask editor, where something is selected.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from omnialpha.errors import InputError
from omnialpha.imaging import masks
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import to_array, to_pil

GUIDES = ("rough_mask", "precise_mask", "trimap", "alpha")
"""What a MASK beside a picture can say about its object: three kinds of selection, white on black, or its alpha."""


def to_pictures(image_BHWC: Tensor, mask: Tensor | None = None) -> list[Image.Image]:
    """RGBA pictures of an IMAGE.

    Args:
        image_BHWC: (B, H, W, 3) or (B, H, W, 4), float in [0, 1].
        mask: MASK of what is transparent, one for all or one each; it replaces a fourth channel. Scaled to the
            pictures where it has another size: "Load Image" gives 64² for an opaque picture.

    Returns:
        B images, straight alpha.

    Raises:
        InputError: The shapes are not those of an IMAGE and its MASK.
    """
    if image_BHWC.ndim != 4 or image_BHWC.shape[-1] not in (3, 4):
        raise InputError(f"an IMAGE has shape (B, H, W, 3 or 4), received {tuple(image_BHWC.shape)}; decode it first")
    if mask is not None:
        alpha_BHW = 1 - _fitted(mask, image_BHWC)
        image_BHWC = torch.cat([image_BHWC[..., :3].cpu(), alpha_BHW[..., None]], dim=-1)
    return [to_pil(picture.float().cpu().numpy()) for picture in image_BHWC]


def to_guides(mask: Tensor, kind: str, image_BHWC: Tensor) -> list[Image.Image]:
    """The guide pictures of a task, one for each picture of an IMAGE, from the MASK that goes with it.

    Args:
        mask: MASK, one for all or one each.
        kind: One of ``GUIDES``. For "alpha" the MASK is 1 − alpha, as everywhere in ComfyUI; the others are selections.
        image_BHWC: The IMAGE.

    Raises:
        InputError: The number of masks and pictures differs.
    """
    values_BHW = _fitted(mask, image_BHWC)
    if kind == "alpha":
        values_BHW = 1 - values_BHW
    return [to_pil(values.numpy()) for values in values_BHW]


def from_stacks(stacks: Sequence[LayerStack]) -> tuple[Tensor, Tensor]:
    """All layers of all stacks, back to front, as an IMAGE of their colours and the MASK of what is transparent.

    Returns:
        (N, H, W, 3) and (N, H, W), float32 in [0, 1].
    """
    layers_NHWC = torch.from_numpy(np.stack([to_array(layer.image) for stack in stacks for layer in stack]))
    return layers_NHWC[..., :3].contiguous(), 1 - layers_NHWC[..., 3]


def guide_from_alpha(mask: Tensor, kind: str, seed: int) -> Tensor:
    """A guide made from a matte, as training makes it.

    Args:
        mask: MASK of a cut-out: 1 − alpha.
        kind: "rough_mask", "precise_mask" or "trimap".
        seed: Of the width of the trimap's band, which is 5 to 10 % of the shorter side.

    Returns:
        MASK (B, H, W): 1 for the object, 0 for the background, about 0.5 in a trimap's band.
    """
    guides = []
    for number, transparent in enumerate(_batch(mask)):
        alpha = 1 - transparent.float().cpu().clamp(0, 1).numpy()
        if kind == "precise_mask":
            guides.append(masks.precise_mask(alpha))
            continue
        trimap = masks.trimap(alpha, generator=np.random.default_rng([seed, number]))
        guides.append(trimap if kind == "trimap" else masks.rough_mask(trimap))
    return torch.from_numpy(np.stack(guides)).float() / 255


def _fitted(mask: Tensor, image_BHWC: Tensor) -> Tensor:
    """A MASK as (B, H, W) on the CPU, of the size and the number of the pictures."""
    mask_BHW = _batch(mask).float().cpu()
    count, height, width = image_BHWC.shape[:3]
    if len(mask_BHW) not in (1, count):
        raise InputError(f"{count} pictures and {len(mask_BHW)} masks; give one mask, or one for each picture")
    if mask_BHW.shape[1:] != (height, width):
        mask_BHW = torch.nn.functional.interpolate(mask_BHW[:, None], (height, width), mode="bilinear")[:, 0]
    return mask_BHW.expand(count, height, width)


def _batch(mask: Tensor) -> Tensor:
    """A MASK with its batch axis."""
    if mask.ndim not in (2, 3):
        raise InputError(f"a MASK has shape (B, H, W) or (H, W), received {tuple(mask.shape)}")
    return mask if mask.ndim == 3 else mask[None]
