"""Masks against OpenCV's morphology with an explicit disk."""

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnialpha.errors import InputError
from omnialpha.imaging.masks import precise_mask, rough_mask, trimap


def _blob(height: int, width: int, seed: int) -> np.ndarray:
    """A soft random alpha with opaque, translucent and empty areas."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 4) * 4 + 0.5, 0, 1)


def _disk(k: float) -> np.ndarray:
    reach = int(k // 2)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return (4 * (x**2 + y**2) <= k * k).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.one_of(st.integers(1, 40), st.floats(1, 40)))
def test_trimap_equals_morphology_with_a_disk(seed: int, k: float) -> None:
    alpha = _blob(53, 71, seed)
    eroded = cv2.erode((alpha > 0.95).astype(np.uint8), _disk(k))
    dilated = cv2.dilate((alpha >= 1 - 0.95).astype(np.uint8), _disk(k))
    expected = np.where(eroded > 0, 255, np.where(dilated == 0, 0, 128))
    np.testing.assert_array_equal(trimap(alpha, k), expected)


def test_every_translucent_pixel_is_unknown() -> None:
    alpha = _blob(64, 64, 0)
    translucent = (alpha >= 0.05) & (alpha <= 0.95)
    assert translucent.any()
    assert (trimap(alpha, 1)[translucent] == 128).all()


@pytest.mark.parametrize(("value", "label"), [(0.0, 0), (1.0, 255), (0.5, 128)])
def test_a_constant_alpha_has_no_edges(value: float, label: int) -> None:
    assert (trimap(np.full((9, 9), value), 4) == label).all()


def test_the_kernel_is_drawn_between_5_and_10_percent() -> None:
    """A half-plane's band is the diameter of the disk wide, give or take the pixel grid."""
    alpha = np.zeros((200, 300))
    alpha[:, 150:] = 1
    widths = [(trimap(alpha, generator=np.random.default_rng(seed))[0] == 128).sum() for seed in range(200)]
    assert min(widths) in (10, 11)
    assert max(widths) in (20, 19)
    assert 14 < np.mean(widths) < 16


def test_the_draw_is_seedable_and_small_images_keep_a_band() -> None:
    alpha = _blob(80, 80, 1)
    first, second = (trimap(alpha, generator=np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    small = np.zeros((8, 8))
    small[:, 4:] = 1
    assert (trimap(small) == 128).any()


def test_the_cost_does_not_grow_with_k() -> None:
    alpha = _blob(256, 256, 2)

    def seconds(k: float) -> float:
        start = time.perf_counter()
        trimap(alpha, k)
        return time.perf_counter() - start

    assert min(seconds(200) for _ in range(5)) < 3 * min(seconds(3) for _ in range(5))


def test_precise_and_rough_masks() -> None:
    alpha = _blob(32, 32, 3)
    np.testing.assert_array_equal(precise_mask(alpha), cv2.threshold(alpha, 0.95, 255, cv2.THRESH_BINARY)[1])
    labels = trimap(alpha, 5)
    np.testing.assert_array_equal(rough_mask(labels) == 255, np.isin(labels, (128, 255)))
    assert ((precise_mask(alpha) == 255) <= (rough_mask(labels) == 255)).all()


def test_eight_bit_alpha_is_scaled() -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    np.testing.assert_array_equal(precise_mask(alpha), precise_mask(alpha / 255))
    np.testing.assert_array_equal(trimap(alpha, 3), trimap(alpha / 255, 3))


@pytest.mark.parametrize(
    "alpha",
    [np.zeros((4, 4, 1)), np.zeros((0, 4)), np.full((4, 4), 1.5), np.full((4, 4), -0.1), np.full((4, 4), np.nan)],
)
def test_other_arrays_are_refused(alpha: np.ndarray) -> None:
    for mask in (precise_mask, trimap):
        with pytest.raises(InputError, match="an alpha channel"):
            mask(alpha)


def test_senseless_disks_and_trimaps_are_refused() -> None:
    for k in (0, -3, float("nan"), float("inf")):
        with pytest.raises(InputError, match="diameter k of at least 1"):
            trimap(np.zeros((4, 4)), k)
    with pytest.raises(InputError, match="only 0, 128 and 255"):
        rough_mask(np.array([[0, 127, 255]], np.uint8))
