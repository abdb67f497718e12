"""The background at full resolution: the original everywhere but behind the object and its shadow.

With I the original, B the model's background (brought to the original's size) and w how far the object reaches,

    result = (1 − w)·I + w·(B + δ)

w is 1 on the object dilated by a working pixel and falls to 0 over the next ones. δ is what I and B differ by around
the object, spread smoothly into it, so that a model which is a little too dark leaves no seam.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, binary_opening, gaussian_filter, label, uniform_filter

from omnialpha.imaging.refine.planes import resized_plane, strips

PRESENT = 0.02  # from this alpha on there is something to remove
FEATHER = 0.8  # σ of the seam, working pixels
CHANGED = 0.06  # a model's background this far from the input has removed something, a shadow for example ...
ABOVE_NOISE = 3.0  # ... if that is this much more than it differs by elsewhere
LARGEST_EFFECT = 1.0  # effects that cover more than the object itself are the model's noise
OFFSET_SHARE = 1 / 32  # σ of δ as a share of the working size


def full_background(image: np.ndarray, raw: np.ndarray, cover: np.ndarray | None) -> np.ndarray:
    """The background at the original's size.

    Args:
        image: ``(H, W, 3)`` ``uint8``, the original.
        raw: ``(h, w, 3)`` ``float32`` in [0, 1], the model's background at its working size.
        cover: ``(H, W)`` in [0, 1], alpha of everything in front; None when it has to be seen from what the model
            changed.

    Returns:
        ``(H, W, 3)`` ``uint8``; equal to ``image`` where nothing was in front.
    """
    height, width = raw.shape[:2]
    size = width, height
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), np.float32) / 255
    hole = removed(small, raw, None if cover is None else resized_plane(cover, size, Image.Resampling.BOX))
    weight = gaussian_filter(binary_dilation(hole, iterations=2).astype(np.float32), FEATHER)
    weight = np.where(binary_dilation(hole), 1, weight)
    raw = raw + _offset(small - raw, 1 - weight)
    planes = [*np.moveaxis(raw, -1, 0), weight]
    result = image.copy()
    for top, bottom, rows in strips(image.shape, raw.shape):
        shape = image.shape[1], bottom - top
        *colours, share = [resized_plane(plane, shape, Image.Resampling.BILINEAR, rows) for plane in planes]
        if cover is not None:
            share = np.where(cover[top:bottom] > PRESENT, 1, share)
        for k, colour in enumerate(colours):
            kept = result[top:bottom, :, k].astype(np.float32)
            kept += share.clip(0, 1) * (colour.clip(0, 1) * 255 - kept)
            result[top:bottom, :, k] = np.rint(kept)
    return result


def removed(image: np.ndarray, background: np.ndarray, cover: np.ndarray | None) -> np.ndarray:
    """Where the background has to come from the model: the object, and what it does to its surroundings.

    Args:
        image: ``(h, w, 3)`` floats in [0, 1], the original at the working size.
        background: The model's, likewise.
        cover: ``(h, w)`` in [0, 1], or None.

    Returns:
        ``(h, w)`` booleans. With ``cover``: where it is present, and changes connected with it. Without: all changes
        larger than a speck.
    """
    change = uniform_filter(np.abs(image - background).max(axis=-1), 3)
    if cover is None:
        return binary_opening(change > max(CHANGED, ABOVE_NOISE * float(np.median(change))))
    present = cover > PRESENT
    elsewhere = change[~binary_dilation(present, iterations=2)]
    noise = float(np.median(elsewhere)) if elsewhere.size else 1.0
    regions, _ = label(present | (change > max(CHANGED, ABOVE_NOISE * noise)))
    connected = np.isin(regions, np.unique(regions[present])) & (regions > 0)
    effects = int(connected.sum() - present.sum())
    return connected if effects <= LARGEST_EFFECT * present.sum() else present


def _offset(difference: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """δ: the difference ``(h, w, 3)`` where it is trusted ``(h, w)``, spread smoothly; 0 far from there."""
    sigma = max(1.0, OFFSET_SHARE * max(trusted.shape))
    weight = gaussian_filter(trusted, sigma) + 1e-3
    return np.dstack([gaussian_filter(difference[..., k] * trusted, sigma) / weight for k in range(3)])
