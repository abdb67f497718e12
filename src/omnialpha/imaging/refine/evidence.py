"""Which detail of a refined alpha the picture confirms: the rest would be invented, and interpolation is kept there.

With α_b the interpolated alpha, d = α − α_b what refinement adds to it, ΔI what the picture shows beyond its own
interpolation from the working size, and s the slope of colour on alpha around each working pixel, about F − B: a share
t of the added detail would show as t·s·d in the picture. In every neighbourhood of working pixels the share is

    t = argmin Σ‖ΔI − t·s·d‖² + λ·t²  =  Σ⟨s·d, ΔI⟩ / (Σ‖s·d‖² + λ)        the result is  α_b + clip(t, 0, 1)·d

A picture without detail of its own has ΔI = 0, so that the interpolated alpha stays.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import uniform_filter

from omnialpha.imaging.refine.planes import resized_plane

NOISE = 1e-5  # λ, mean square of colours in [0, 1]: about one level of 255
FLAT = 1e-4  # variance of alpha below which there is no slope
SLOPE_SIDE, SHARE_SIDE = 5, 3  # windows, working pixels


def confirmed(image: np.ndarray, raw: np.ndarray, refined: np.ndarray) -> np.ndarray:
    """Keep of a refined alpha what the picture confirms.

    It holds for a raw alpha that is right but for its size; where the raw one is wrong, interpolation is no measure.

    Args:
        image: ``(H, W, 3)`` ``uint8``, the original.
        raw: ``(h, w)`` ``float32`` in [0, 1], alpha at the working size.
        refined: ``(H, W)`` ``float32`` in [0, 1].

    Returns:
        ``(H, W)`` ``float32`` in [0, 1].
    """
    size, work = refined.shape[::-1], raw.shape[::-1]
    original = Image.fromarray(image)
    small = original.resize(work, Image.Resampling.BOX)
    interpolated = np.asarray(small.resize(size, Image.Resampling.BICUBIC))
    plain = resized_plane(raw, size, Image.Resampling.BICUBIC).clip(0, 1)
    added = refined - plain
    agreement, expected = np.zeros((2, *raw.shape), np.float32)
    for k, slope in enumerate(_slopes(np.asarray(small, np.float32) / 255, raw)):
        predicted = resized_plane(slope, size, Image.Resampling.BILINEAR) * added
        seen = np.subtract(image[..., k], interpolated[..., k], dtype=np.float32) / 255
        agreement += resized_plane(predicted * seen, work, Image.Resampling.BOX)
        expected += resized_plane(predicted**2, work, Image.Resampling.BOX)
    share = uniform_filter(agreement, SHARE_SIDE) / (uniform_filter(expected, SHARE_SIDE) + NOISE)
    result: np.ndarray = plain + resized_plane(share.clip(0, 1), size, Image.Resampling.BILINEAR) * added
    return result


def _slopes(small: np.ndarray, raw: np.ndarray) -> list[np.ndarray]:
    """Regression of each channel of the small picture on alpha in windows, three times ``(h, w)``."""
    mean = uniform_filter(raw, SLOPE_SIDE)
    spread = uniform_filter(raw * raw, SLOPE_SIDE) - mean**2 + FLAT
    channels = np.moveaxis(small, -1, 0)
    return [(uniform_filter(raw * x, SLOPE_SIDE) - mean * uniform_filter(x, SLOPE_SIDE)) / spread for x in channels]
