"""Check what goes into a metric: one clear error instead of a number that means something else."""

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.masks import BACKGROUND, FOREGROUND, UNKNOWN


def alpha_matte(array: np.ndarray, name: str) -> np.ndarray:
    """Check an alpha matte.

    Args:
        array: ``(H, W)``, floats in [0, 1] or ``uint8``.
        name: What to call it in errors.

    Returns:
        ``(H, W)`` ``uint8`` where the values are whole multiples of 1/255 in their own precision, so that a result
        does not depend on whether an 8-bit matte came as bytes, halves, floats or doubles; else ``float64``.

    Raises:
        InputError: Another type, shape or range.
    """
    array = _numbers(array, name)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"the {name} has shape (H, W), not {array.shape}; take one channel of the image")
    if array.dtype == np.uint8:
        return array
    # The first rows decide most cases at little cost.
    levels = np.rint(array[:2] * 255).astype(np.uint8)
    if np.array_equal((levels / 255).astype(array.dtype), array[:2]):
        levels = np.rint(array * 255).astype(np.uint8)
        if np.array_equal((levels / 255).astype(array.dtype), array):
            return levels
    return array.astype(np.float64)


def unknown_region(trimap: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The unknown region of a trimap.

    Args:
        trimap: ``(H, W)`` of 0, 128 and 255 (``uint8``) or 0, 0.5 and 1 (floats).
        shape: ``(H, W)`` of the mattes.

    Returns:
        ``(H, W)`` ``bool``.

    Raises:
        InputError: Another shape, or other values, which would silently count as known.
    """
    trimap = _numbers(trimap, "trimap")
    if trimap.shape != shape:
        raise InputError(f"the trimap has shape {trimap.shape}, the mattes have {shape}; give one of their size")
    if trimap.dtype != np.uint8:
        trimap = np.rint(trimap * 255)
    unknown: np.ndarray = trimap == UNKNOWN
    if not (unknown | (trimap == BACKGROUND) | (trimap == FOREGROUND)).all():
        raise InputError("a trimap holds only 0, 128 and 255; map other values to these, and save it as PNG")
    return unknown


def picture(image: np.ndarray | Image.Image, name: str, channels: int) -> np.ndarray:
    """Check a picture.

    Args:
        image: Pillow image with that many 8-bit channels, or ``(H, W, channels)``, floats in [0, 1] or ``uint8``.
        name: What to call it in errors.
        channels: 3 for RGB, 4 for RGBA.

    Returns:
        ``(H, W, channels)``, ``uint8`` or floats as they came.

    Raises:
        InputError: Another type, shape or range.
    """
    mode = "RGBA" if channels == 4 else "RGB"
    if isinstance(image, Image.Image) and image.mode != mode:
        raise InputError(f'the {name} is of mode "{mode}", not "{image.mode}"; convert it')
    array = _numbers(np.asarray(image), name)
    if array.ndim != 3 or array.shape[2] != channels or array.size == 0:
        raise InputError(f"the {name} has shape (H, W, {channels}), not {array.shape}; convert it to {mode}")
    return array


def same_shape(pred: np.ndarray, target: np.ndarray) -> None:
    """Refuse arrays of different shapes.

    Args:
        pred: Prediction.
        target: Target.

    Raises:
        InputError: Their shapes differ.
    """
    if pred.shape != target.shape:
        raise InputError(
            f"prediction {pred.shape} and target {target.shape} differ in size; resize the prediction first, "
            "and say so beside the scores"
        )


def unit_floats(array: np.ndarray) -> np.ndarray:
    """Values in [0, 1].

    Args:
        array: ``uint8``, or floats in [0, 1].

    Returns:
        The same shape, ``float64``.
    """
    return array / 255 if array.dtype == np.uint8 else array.astype(np.float64, copy=False)


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """An array of bytes, or of floats in [0, 1]."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"the {name} is a NumPy array, not {type(array).__name__}; use numpy.asarray")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"the {name} is uint8 or float in [0, 1], not {array.dtype}; divide it by its maximum (65535 for 16 bits)"
        )
    # Written so that NaN fails too.
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        if not np.isfinite(array).all():
            raise InputError(f"the {name} holds NaN or infinity; check what produced it")
        raise InputError(f"the {name} lies in [0, 1], not [{array.min():g}, {array.max():g}]; scale it first")
    return array
