"""Colours of the foreground: closer to the truth than the picture, and than PyMatting where that is installed."""

import numpy as np
import pytest

from omnialpha.errors import InputError
from omnialpha.imaging.refine import foreground_colours

SIDE = 96


def hairy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picture, alpha and true colours: orange with a wide soft rim over blue."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    alpha = np.clip((0.3 - np.hypot(x, y) + 0.05 * np.cos(20 * np.arctan2(y, x))) * 8 + 0.5, 0, 1)
    front = np.dstack([0.9 + 0.1 * x, 0.5 + 0.3 * y, 0.1 + 0 * x])
    back = np.dstack([0.1 + 0.1 * y, 0.3 + 0 * x, 0.8 - 0.2 * x])
    return alpha[..., None] * front + (1 - alpha[..., None]) * back, alpha, front


def rim_error(colours: np.ndarray) -> float:
    _, alpha, true = hairy()
    weight = alpha * ((alpha > 0.02) & (alpha < 0.98))
    return float((np.abs(colours - true).mean(axis=-1) * weight).sum() / weight.sum())


def test_the_background_is_taken_out_of_the_rim() -> None:
    image, alpha, _ = hairy()
    assert rim_error(foreground_colours(image, alpha)) < 0.15 * rim_error(image)


def test_opaque_pixels_are_the_pictures_own() -> None:
    image, alpha, _ = hairy()
    found = foreground_colours(image, alpha)
    np.testing.assert_array_equal(found[alpha == 1], image.astype(np.float32)[alpha == 1])
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.slow  # Numba compiles PyMatting for half a minute
def test_no_worse_than_pymatting() -> None:
    estimate = pytest.importorskip("pymatting.foreground.estimate_foreground_ml").estimate_foreground_ml
    image, alpha, _ = hairy()
    assert rim_error(foreground_colours(image, alpha)) <= 1.05 * rim_error(estimate(image, alpha))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1)])
def test_pictures_of_one_row_or_pixel(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 0.5)
    np.testing.assert_allclose(foreground_colours(image, np.full(shape, 0.5)), 0.5, atol=1e-3)


def test_sizes_must_agree() -> None:
    with pytest.raises(InputError, match=r"\(4, 4, 3\).*\(4, 5\)"):
        foreground_colours(np.zeros((4, 4, 3)), np.zeros((4, 5)))
