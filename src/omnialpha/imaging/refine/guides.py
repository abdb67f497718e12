"""What the guides of the tasks say for certain about alpha, at full size."""

import math

import numpy as np
from scipy.ndimage import maximum_filter

from omnialpha.imaging.refine.alpha import Known

NEARLY = 16  # levels of 255 that compression may have moved a trimap's black and white
HALF = 128


def known_from(slot: str, guide: np.ndarray, pixel: float) -> Known:
    """What is known.

    - alpha: everything; the guide is the answer.
    - trimap: its white and its black.
    - precise mask: its white is foreground; from one working pixel outside it on there is background, and between them
      are the translucent pixels that a mask cannot tell.
    - rough mask: its black is background.

    Args:
        slot: Name of the input slot.
        guide: ``(H, W)`` ``uint8``, white on black.
        pixel: Side of a pixel of the working size in pixels of the guide.
    """
    if slot == "alpha":
        return Known(mask=np.ones(guide.shape, bool), value=guide / np.float32(255))
    if slot == "trimap":
        front, back = guide >= 255 - NEARLY, guide <= NEARLY
    elif slot == "precise_mask":
        front = guide >= HALF
        back = maximum_filter(front.astype(np.uint8), 2 * math.ceil(pixel) + 1) == 0
    else:
        front, back = np.zeros(guide.shape, bool), guide < HALF
    return Known(mask=front | back, value=front.astype(np.float32))


def covered_by(slot: str, guide: np.ndarray) -> np.ndarray:
    """``(H, W)`` ``float32`` in [0, 1]: how far the object may cover each pixel, as the guide tells."""
    if slot == "alpha":
        return guide / np.float32(255)
    return (guide > NEARLY if slot == "trimap" else guide >= HALF).astype(np.float32)
