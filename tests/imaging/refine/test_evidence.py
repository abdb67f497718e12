"""Detail of a refined alpha is kept where the picture shows it, and dropped where it does not."""

import numpy as np
import pytest
from PIL import Image

from omnialpha.imaging.refine.alpha import full_alpha
from omnialpha.imaging.refine.evidence import confirmed
from omnialpha.imaging.refine.planes import resized_plane

SIDE, WORK = 128, 32
FRONT, BACK = np.array([0.9, 0.6, 0.2]), np.array([0.1, 0.3, 0.7])


def stripes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alpha of stripes narrower than a working pixel inside a soft disk, its working size, and that interpolated."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disk = np.clip((40 - np.hypot(x - 64, y - 64)) / 12 + 0.5, 0, 1)
    alpha = (disk * (x % 5 < 3)).astype(np.float32)
    raw = resized_plane(alpha, (WORK, WORK), Image.Resampling.BOX)
    return alpha, raw, resized_plane(raw, (SIDE, SIDE), Image.Resampling.BICUBIC).clip(0, 1)


def picture(alpha: np.ndarray) -> np.ndarray:
    return np.rint(255 * (alpha[..., None] * FRONT + (1 - alpha[..., None]) * BACK)).astype(np.uint8)


def test_detail_that_the_picture_shows_is_kept() -> None:
    alpha, raw, plain = stripes()
    found = confirmed(picture(alpha), raw, alpha)
    assert np.abs(found - alpha).mean() < 0.1 * np.abs(plain - alpha).mean()


def test_detail_that_the_picture_does_not_show_is_dropped() -> None:
    alpha, raw, plain = stripes()
    found = confirmed(picture(plain), raw, alpha)
    assert np.abs(found - plain).mean() < 0.15 * np.abs(alpha - plain).mean()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_is_added_where_the_model_sees_no_edge(value: float) -> None:
    alpha, _, _ = stripes()
    raw = np.full((WORK, WORK), value, np.float32)
    np.testing.assert_allclose(confirmed(picture(alpha), raw, alpha), value, atol=1e-6)


def test_a_true_alpha_over_noise_is_hardly_made_worse_than_by_interpolation() -> None:
    """A soft blob as wide as many working pixels, which interpolation shows well, over a grainy background."""
    y, x = np.mgrid[:SIDE, :SIDE]
    alpha = np.exp(-((x - 64) ** 2 + (y - 64) ** 2) / 800).astype(np.float32)
    grain = np.random.default_rng(0).normal(0, 12, (SIDE, SIDE, 1)) * (1 - alpha[..., None])
    image = np.rint((picture(alpha) + grain).clip(0, 255)).astype(np.uint8)
    raw = resized_plane(alpha, (WORK, WORK), Image.Resampling.BOX)
    plain = resized_plane(raw, (SIDE, SIDE), Image.Resampling.BICUBIC).clip(0, 1)
    error = np.abs(full_alpha(image, raw) - alpha).mean()
    assert error < np.abs(plain - alpha).mean() + 0.004  # 0.014 without evidence
