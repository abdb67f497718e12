"""sRGB: its transfer function, the ICC profile that files carry, telling whether a profile is sRGB."""

import io

import numpy as np
from PIL import Image, ImageCms

_MID_GREY = 128


def _profile() -> bytes:
    """LittleCMS' sRGB profile without the time at which it was made: the same stack gives the same bytes."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = b"".join(number.to_bytes(2, "big") for number in (2000, 1, 1, 0, 0, 0))
    return bytes(profile)


SRGB_PROFILE = _profile()
"""ICC profile of sRGB, as bytes to embed in a file."""


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile is sRGB by name and by what it does to a mid-grey, so that nothing needs converting.

    Both are asked: GIMP calls a profile "Linear sRGB", and profiles of sRGB for print differ a little from each other.

    Args:
        profile: Content of the profile.

    Returns:
        False also for a damaged profile.

    >>> is_srgb(SRGB_PROFILE), is_srgb(b"damaged")
    (True, False)
    """
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" not in ImageCms.getProfileDescription(opened).lower():
            return False
        grey = Image.new("RGB", (1, 1), (_MID_GREY,) * 3)
        converted = ImageCms.profileToProfile(grey, opened, ImageCms.createProfile("sRGB"))
    except (OSError, ImageCms.PyCMSError):
        return False
    return converted is not None and all(abs(value - _MID_GREY) < 16 for value in converted.tobytes())


def to_linear(image: np.ndarray) -> np.ndarray:
    """Decode sRGB to linear light (IEC 61966-2-1); alpha is linear already.

    Args:
        image: ``(..., 4)`` floats in [0, 1], straight alpha, channels last.

    Returns:
        The same shape.

    >>> to_linear(np.array([1.0, 0.5, 0.0, 0.5])).round(4).tolist()
    [1.0, 0.214, 0.0, 0.5]
    """
    colours = image[..., :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.concatenate([linear, image[..., 3:]], axis=-1, dtype=image.dtype)


def from_linear(image: np.ndarray) -> np.ndarray:
    """Encode linear light as sRGB; the inverse of ``to_linear``.

    Args:
        image: ``(..., 4)`` floats in [0, 1], straight alpha, channels last.

    Returns:
        The same shape.
    """
    colours = image[..., :3]
    encoded = np.where(colours <= 0.0031308, 12.92 * colours, 1.055 * colours ** (1 / 2.4) - 0.055)
    return np.concatenate([encoded, image[..., 3:]], axis=-1, dtype=image.dtype)
