"""Refine cut-outs: the colours that belong to the foreground alone."""

import numpy as np

from omnialpha.errors import InputError
from omnialpha.extras import require


def foreground_colours(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Estimate the foreground's colours in a photograph, free of the background that shines through.

    A pixel of the photograph is C = α·F + (1 − α)·B; taken for F as it is, the background stays on as a halo around
    hair and glass. F is estimated by the multi-level method of Germer et al., "Fast Multi-Level Foreground Estimation"
    (2020).

    Args:
        image: ``(H, W, 3)`` floats in [0, 1], the composite.
        alpha: ``(H, W)`` floats in [0, 1].

    Returns:
        ``(H, W, 3)`` ``float32`` in [0, 1]; equal to ``image`` where alpha is 1, meaningless where it is 0.

    Raises:
        InputError: The two differ in size.
        MissingExtraError: PyMatting is not installed.
    """
    if image.shape != (*alpha.shape, 3):
        raise InputError(
            f"the image has shape {image.shape}, the alpha channel {alpha.shape}; give (H, W, 3) and (H, W)"
        )
    module = require("pymatting.foreground.estimate_foreground_ml", extra="baselines")
    colours = module.estimate_foreground_ml(image.astype(np.float64), alpha.astype(np.float64))
    return np.where(alpha[..., None] >= 1, image, np.clip(colours, 0, 1)).astype(np.float32)
