"""From brush strokes to the guide that a task takes: precise mask, rough mask or trimap.

The page offers two brushes over the picture, in colours that are seen on any photograph and told apart by people who do
not see red and green: `OBJECT` for what surely belongs to the object and `UNSURE` for the edge of hair, fur or glass.
The model gets what it was trained with: white, grey and black.
"""

import numpy as np
from PIL import Image, ImageColor

from omnialpha.errors import InputError
from omnialpha.imaging import masks

OBJECT, UNSURE = "#2f7bff", "#ff9a1f"
"""Colours of the two brushes."""

OPACITY = 0.65
"""Of the strokes, so that the picture is seen through them; above 1/2 the last stroke decides."""

_BAND = sum(masks.KERNEL_RANGE) / 2  # of a trimap without a painted edge, as a share of the shorter side


def painted_guide(strokes: Image.Image, size: tuple[int, int], kind: str) -> Image.Image:
    """Turn strokes into the guide of a task.

    A pixel is painted where its alpha exceeds half the brush's opacity, and belongs to the brush whose colour is
    nearer. Strokes on a smaller canvas are enlarged smoothly. Then, in the manner of the training data:

    - "precise_mask": white where the object brush was used,
    - "rough_mask": white where any brush was used,
    - "trimap": white under the object brush, grey under the other, black elsewhere. Where the edge was not painted at
      all, a grey band is cut along the outline, as in training (`masks.trimap`).

    Args:
        strokes: "RGBA", transparent where nothing was painted; any size of about the picture's proportions.
        size: Width and height of the picture.
        kind: "precise_mask", "rough_mask" or "trimap".

    Returns:
        "L" image of the picture's size, with 0 and 255, in a trimap also 128.

    Raises:
        InputError: Nothing was painted with a brush that the guide needs.
    """
    pixels = np.asarray(strokes.convert("RGBA")).astype(np.float32)
    painted = pixels[..., 3] > 255 * OPACITY / 2
    distances = [np.abs(pixels[..., :3] - ImageColor.getrgb(colour)[:3]).sum(axis=-1) for colour in (OBJECT, UNSURE)]
    object_ = _enlarged(painted & (distances[0] <= distances[1]), size)
    any_brush = _enlarged(painted, size) | object_
    if kind == "rough_mask":
        result = np.where(any_brush, masks.FOREGROUND, masks.BACKGROUND)
    elif not object_.any():
        raise InputError("the object is not marked; paint it with the blue brush, or drop a finished guide")
    elif kind == "precise_mask":
        result = np.where(object_, masks.FOREGROUND, masks.BACKGROUND)
    elif (any_brush == object_).all():
        result = masks.trimap(object_.astype(np.float32), k=max(2, round(_BAND * min(size))))
    else:
        result = np.where(object_, masks.FOREGROUND, np.where(any_brush, masks.UNKNOWN, masks.BACKGROUND))
    if not result.any():
        raise InputError("nothing is painted; paint over the object, or drop a finished guide")
    return Image.fromarray(result.astype(np.uint8))


def _enlarged(marked: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size, with a smooth outline."""
    grey = Image.fromarray(marked.astype(np.uint8) * 255)
    enlarged: np.ndarray = np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) >= 128
    return enlarged
