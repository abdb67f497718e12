"""Generated pictures: PSNR, SSIM, the nine-background scores of RGBA pictures, Fréchet distances and CLIP-Score.

RGBA pictures are scored over the nine solid colours of AlphaVAE's protocol (arXiv 2507.09308): `over_backgrounds`
turns them into RGB, every RGB metric applies, and results keep the name of the background. AlphaVAE saved its
composites as JPEG on the way; nothing is compressed here.

FID, CLIP-FID, CLIP-Score and LPIPS stand on feature extractors: any callable of the documented shape, or the usual
networks of `extractors` and `lpips` with weights from a path. Nothing is downloaded. `accumulate.DIRECTION` says which
way is better.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from PIL import Image
from scipy import ndimage

from omnialpha.errors import InputError
from omnialpha.evaluation._frechet import FeatureStatistics, frechet_distance
from omnialpha.evaluation._inputs import picture, same_shape, unit_floats

__all__ = [
    "BACKGROUNDS",
    "FeatureStatistics",
    "clip_score",
    "feature_statistics",
    "fid",
    "frechet_distance",
    "over_backgrounds",
    "psnr",
    "rgba_psnr",
    "rgba_ssim",
    "ssim",
]

Picture = np.ndarray | Image.Image

BACKGROUNDS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "gray": (128, 128, 128),
        "black": (0, 0, 0),
        "white": (255, 255, 255),
        "red": (255, 0, 0),
        "green": (0, 255, 0),
        "blue": (0, 0, 255),
        "yellow": (255, 255, 0),
        "cyan": (0, 255, 255),
        "magenta": (255, 0, 255),
    }
)
"""AlphaVAE's backgrounds under their names there."""

_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5  # an 11×11 window
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2  # for values in [0, 1]
_CLIP_SCALE = 2.5


def psnr(pred: Picture, target: Picture) -> float:
    """Peak signal-to-noise ratio, 10·log₁₀(1 / mean (p − g)²) in dB, higher is better.

    Args:
        pred: Pillow "RGB" image or ``(H, W, 3)``, floats in [0, 1] or ``uint8``.
        target: Likewise, of the same size.

    Returns:
        dB; infinity for equal pictures.

    Raises:
        InputError: Sizes differ, or an input is no RGB picture.

    >>> round(psnr(np.ones((2, 2, 3)), np.full((2, 2, 3), 0.9)), 9)
    20.0
    """
    p, g = _rgb_pair(pred, target)
    mse = float(np.square(p - g).mean())
    return float(-10 * np.log10(mse)) if mse > 0 else float("inf")


def ssim(pred: Picture, target: Picture) -> float:
    """Structural similarity, higher is better (Wang et al., IEEE TIP 2004).

    Mean of (2μ_pμ_g + C₁)(2σ_pg + C₂) / ((μ_p² + μ_g² + C₁)(σ_p² + σ_g² + C₂)) over all positions where an 11×11
    Gaussian window (σ = 1.5) fits into the picture, and over the channels; C₁ = 0.01², C₂ = 0.03².

    Args:
        pred: RGB picture as for `psnr`, at least 11 pixels high and wide.
        target: Likewise, of the same size.

    Returns:
        At most 1, which only equal pictures reach.

    Raises:
        InputError: Sizes differ, an input is no RGB picture, or it is smaller than the window.

    >>> picture = np.linspace(0, 1, 16 * 16 * 3).reshape(16, 16, 3)
    >>> ssim(picture, picture), ssim(1 - picture, picture) < 0.5
    (1.0, True)
    """
    p, g = _rgb_pair(pred, target)
    if min(p.shape[:2]) <= 2 * _SSIM_RADIUS:
        raise InputError(f"SSIM needs at least 11×11 pixels, not {p.shape[1]}×{p.shape[0]}; score larger pictures")

    def local_mean(image: np.ndarray) -> np.ndarray:
        blurred = ndimage.gaussian_filter(image, _SSIM_SIGMA, radius=_SSIM_RADIUS, axes=(0, 1))
        return blurred[_SSIM_RADIUS:-_SSIM_RADIUS, _SSIM_RADIUS:-_SSIM_RADIUS]

    mean_p, mean_g = local_mean(p), local_mean(g)
    var_p, var_g = local_mean(p * p) - mean_p**2, local_mean(g * g) - mean_g**2
    covariance = local_mean(p * g) - mean_p * mean_g
    numerator = (2 * mean_p * mean_g + _SSIM_C1) * (2 * covariance + _SSIM_C2)
    return float((numerator / ((mean_p**2 + mean_g**2 + _SSIM_C1) * (var_p + var_g + _SSIM_C2))).mean())


def over_backgrounds(rgba: Picture) -> dict[str, np.ndarray]:
    """Lay an RGBA picture over AlphaVAE's nine backgrounds, with its arithmetic: single precision, then truncation.

    Args:
        rgba: Pillow "RGBA" image or ``(H, W, 4)``, floats in [0, 1] or ``uint8``, straight alpha.

    Returns:
        Background name to ``(H, W, 3)`` ``uint8``.

    Raises:
        InputError: The input is no RGBA picture.

    127/255 falls just short of 127 in single precision and is cut to 126, there as here:

    >>> half = np.full((1, 1, 4), [255, 0, 0, 128], np.uint8)
    >>> over_backgrounds(half)["blue"].tolist()
    [[[128, 0, 126]]]
    """
    array = picture(rgba, "picture", 4)
    array = array.astype(np.float32) / np.float32(255) if array.dtype == np.uint8 else array.astype(np.float32)
    colour, alpha = array[..., :3], array[..., 3:]
    result = {}
    for name, background in BACKGROUNDS.items():
        blended = alpha * colour + (1 - alpha) * (np.array(background, np.float32) / np.float32(255))
        result[name] = np.clip(blended * np.float32(255), 0, 255).astype(np.uint8)
    return result


def rgba_psnr(pred_rgba: Picture, target_rgba: Picture) -> dict[str, float]:
    """PSNR over each of the nine backgrounds, higher is better; the protocol's score is their mean.

    Args:
        pred_rgba: RGBA picture as for `over_backgrounds`.
        target_rgba: Likewise, of the same size.

    Returns:
        Background name to dB, infinity where the composites are equal.

    Raises:
        InputError: Sizes differ, or an input is no RGBA picture.

    >>> clear, black = np.zeros((1, 1, 4)), np.array([[[0.0, 0, 0, 1]]])
    >>> scores = rgba_psnr(clear, black)
    >>> scores["black"], scores["white"] == 0
    (inf, True)
    """
    return _over_nine(psnr, pred_rgba, target_rgba)


def rgba_ssim(pred_rgba: Picture, target_rgba: Picture) -> dict[str, float]:
    """SSIM over each of the nine backgrounds, higher is better; arguments and errors as for `rgba_psnr` and `ssim`.

    >>> image = np.full((16, 16, 4), 0.5)
    >>> set(rgba_ssim(image, image).values())
    {1.0}
    """
    return _over_nine(ssim, pred_rgba, target_rgba)


def feature_statistics(images: Iterable[Picture], extractor: Callable[[Picture], np.ndarray]) -> FeatureStatistics:
    """Gather the features of pictures, one at a time.

    Args:
        images: Pictures of whatever kind the extractor takes.
        extractor: Picture to ``(D,)`` features, as `extractors.inception` and `extractors.clip` return.

    Returns:
        Their statistics, to keep for the next comparison.

    Raises:
        InputError: The features do not fit together.
    """
    statistics = FeatureStatistics()
    for image in images:
        statistics.update(np.asarray(extractor(image))[None])
    return statistics


def fid(preds: Iterable[Picture], targets: Iterable[Picture], extractor: Callable[[Picture], np.ndarray]) -> float:
    """Fréchet distance of two sets of pictures in a network's features, lower is better.

    FID (Heusel et al., NeurIPS 2017) with `extractors.inception`, CLIP-FID (Kynkäänniemi et al., ICLR 2023) with
    `extractors.clip`, both prepared as in clean-fid (Parmar et al., CVPR 2022).

    Args:
        preds: Generated pictures.
        targets: Real pictures; the numbers may differ.
        extractor: Picture to ``(D,)`` features.

    Returns:
        The distance. It falls with the number of pictures: compare only equal numbers, and state them.

    Raises:
        InputError: There are fewer than two pictures on a side, or the features do not fit together.

    >>> dark, light = ([np.full((2, 2, 3), value + step) for step in (0, 0.1)] for value in (0.2, 0.7))
    >>> round(fid(dark, light, lambda image: image.mean(axis=(0, 1))), 9)
    0.75
    """
    return feature_statistics(preds, extractor).distance(feature_statistics(targets, extractor))


def clip_score(image_features: Sequence[float] | np.ndarray, text_features: Sequence[float] | np.ndarray) -> float:
    """2.5·max(cos(image, text), 0), higher is better (CLIPScore, Hessel et al., EMNLP 2021).

    Args:
        image_features: ``(D,)`` CLIP embedding of a picture.
        text_features: ``(D,)`` CLIP embedding of "A photo depicts " and its caption (`extractors.clip_text`).

    Returns:
        In [0, 2.5].

    Raises:
        InputError: The shapes differ, or an embedding is zero or not finite.

    >>> clip_score([1.0, 0.0], [3.0, 4.0])
    1.5
    """
    image, text = np.asarray(image_features, np.float64), np.asarray(text_features, np.float64)
    if image.ndim != 1 or image.shape != text.shape:
        raise InputError(f"embeddings have one shape (D,), not {image.shape} and {text.shape}; use one CLIP for both")
    norms = np.linalg.norm(image) * np.linalg.norm(text)
    if not (np.isfinite(norms) and norms > 0):
        raise InputError("an embedding is zero or not finite; check the picture and the network")
    return _CLIP_SCALE * max(float(image @ text / norms), 0.0)


def _rgb_pair(pred: Picture, target: Picture) -> tuple[np.ndarray, np.ndarray]:
    p, g = picture(pred, "prediction", 3), picture(target, "target", 3)
    same_shape(p, g)
    return unit_floats(p), unit_floats(g)


def _over_nine(
    metric: Callable[[Picture, Picture], float], pred_rgba: Picture, target_rgba: Picture
) -> dict[str, float]:
    p, g = picture(pred_rgba, "prediction", 4), picture(target_rgba, "target", 4)
    same_shape(p, g)
    preds, targets = over_backgrounds(p), over_backgrounds(g)
    return {name: metric(preds[name], targets[name]) for name in BACKGROUNDS}
