"""Editing models drift: how a result lies against its original, and putting it back.

The shift between two pictures is the peak of their phase correlation,  F⁻¹(F(a)·F(b)* / |F(a)·F(b)*|)  (Kuglin and
Hines, 1975). The scale is looked for among a few percent, as the one whose peak is highest.
"""

import logging
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from omnialpha.imaging.rgba import to_array

logger = logging.getLogger(__name__)

LARGEST_SHIFT = 0.03  # of the longer side: more is not drift but another picture
SCALES = tuple(np.linspace(0.97, 1.03, 13).tolist())
NEGLIGIBLE_SHIFT = 0.25  # pixels of what is compared
LOOKED_AT = 256  # longer side of what is compared: enough for a hundredth of a percent
MIN_GAIN = 0.1  # a correction must take this share off the difference, or it is not believed


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Where a result lies against its original.

    Attributes:
        x: Shift to the right, pixels of the working size.
        y: Shift downwards.
        scale: Enlargement about the centre.
    """

    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    def undone(self, image: Image.Image) -> Image.Image:
        """An "RGBA" image put back, resampled once without bleeding the colours of transparent pixels."""
        cx, cy, s = image.width / 2, image.height / 2, self.scale
        # Pillow asks where each pixel of the result comes from; what lies beyond the border repeats it.
        pad = 2 + int(max(abs(self.x), abs(self.y)) + abs(s - 1) * max(cx, cy))
        matrix = (s, 0, cx - s * cx + self.x + pad, 0, s, cy - s * cy + self.y + pad)
        padded = np.pad(np.asarray(image.convert("RGBa")), ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        planes = [Image.fromarray(np.ascontiguousarray(padded[..., k])) for k in range(4)]
        bands = [
            plane.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC) for plane in planes
        ]
        bands[:3] = [ImageChops.darker(band, bands[3]) for band in bands[:3]]  # bicubic overshoots
        return Image.merge("RGBa", bands).convert("RGBA")


def estimate(original: Image.Image, result: Image.Image) -> Drift:
    """How ``result`` lies against ``original``.

    Args:
        original: Opaque.
        result: The same picture made anew, of the same size.

    Returns:
        The drift; none where it is negligible or where undoing it would not bring the pictures closer.
    """
    factor = max(1.0, max(original.size) / LOOKED_AT)
    size = round(original.width / factor), round(original.height / factor)
    original, result = (image.resize(size, Image.Resampling.BOX) for image in (original, result))
    a, b = _grey(original), _grey(result)
    candidates = []
    for scale in SCALES:
        descaled = b if scale == 1 else _grey(Drift(scale=scale).undone(result))
        y, x, peak = _correlation_peak(a, descaled)
        candidates.append((peak, Drift(x=x * scale, y=y * scale, scale=scale)))
    _, drift = max(candidates, key=lambda candidate: candidate[0])
    if drift.scale == 1 and max(abs(drift.x), abs(drift.y)) < NEGLIGIBLE_SHIFT:
        return Drift()
    inner = tuple(slice(max(2, side // 16), -max(2, side // 16)) for side in a.shape)
    before, after = (float(np.abs(a - other)[inner].mean()) for other in (b, _grey(drift.undone(result))))
    if after >= (1 - MIN_GAIN) * before:
        return Drift()
    return Drift(x=drift.x * factor, y=drift.y * factor, scale=drift.scale)


def aligned(layers: list[Image.Image], original: Image.Image, result: Image.Image) -> list[Image.Image]:
    """Put layers back by the drift of what they show together; corrections are logged, large drifts only warned of.

    Args:
        layers: "RGBA", of the working size.
        original: The input at that size.
        result: The layers flattened, or the one that resembles the input.

    Returns:
        The layers, corrected or as they are.
    """
    drift = estimate(original, result)
    if drift == Drift():
        return layers
    width, height = original.size
    shift = max(abs(drift.x) / width, abs(drift.y) / height)
    described = f"{drift.x / width:+.1%} to the right, {drift.y / height:+.1%} down, scale {drift.scale:.3f}"
    if shift > LARGEST_SHIFT or drift.scale in (SCALES[0], SCALES[-1]):
        logger.warning("the result has drifted against the input (%s), too far to correct it", described)
        return layers
    logger.info("the result had drifted against the input (%s): corrected", described)
    return [drift.undone(layer) for layer in layers]


def _grey(image: Image.Image) -> np.ndarray:
    """Brightness over black, ``(H, W)`` ``float32``."""
    pixels = to_array(image)
    grey: np.ndarray = (pixels[..., :3].mean(axis=-1) * pixels[..., 3]).astype(np.float32)
    return grey


def _correlation_peak(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Shift (down, right) of ``b`` against ``a`` in fractions of pixels, and the height of the peak in [0, 1]."""
    window = np.outer(*(np.hanning(side) for side in a.shape))
    spectra = [np.fft.rfft2((plane - plane.mean()) * window) for plane in (b, a)]
    product = spectra[0] * spectra[1].conj()
    # Noise fills the high frequencies of a model's result: a Gaussian weight keeps them from drowning the peak.
    fy, fx = np.fft.fftfreq(a.shape[0])[:, None], np.fft.rfftfreq(a.shape[1])[None]
    weight = np.exp(-(fy**2 + fx**2) / (2 * 0.15**2))
    correlation = np.fft.irfft2(weight * product / np.maximum(np.abs(product), 1e-12), a.shape)
    row, column = np.unravel_index(int(correlation.argmax()), a.shape)
    peak = correlation[row, column]
    shifts = []
    for axis, index in enumerate((int(row), int(column))):
        side = a.shape[axis]
        line = correlation[:, column] if axis == 0 else correlation[row]
        low, high = line[index - 1], line[(index + 1) % side]
        curve = low - 2 * peak + high
        shift = index + (0.5 * (low - high) / curve if curve < 0 else 0.0)
        shifts.append(float(shift - side if shift > side / 2 else shift))
    return shifts[0], shifts[1], float(peak / weight.mean() if weight.mean() else 0.0)
