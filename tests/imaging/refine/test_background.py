"""The background: original pixels outside, the model's inside, no seam, shadows gone."""

import numpy as np
import pytest
from PIL import Image

from omnialpha.imaging.refine.background import full_background, removed
from omnialpha.imaging.refine.planes import resized_plane

SIDE, WORK = 128, 32


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The input ``uint8`` with a red square and its shadow, the true background ``uint8``, alpha of the square."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    texture = 0.03 * np.random.default_rng(0).standard_normal((SIDE, SIDE))
    back = np.dstack([0.4 + 0.3 * x + texture, 0.5 + 0.2 * y + texture, 0.6 - 0.2 * x + texture]).clip(0, 1)
    alpha = np.zeros((SIDE, SIDE), np.float32)
    alpha[48:80, 48:80] = 1
    image = back.copy()
    image[80:92, 48:80] *= 0.6  # the shadow
    image[alpha == 1] = (0.9, 0.1, 0.1)
    return np.rint(image * 255).astype(np.uint8), np.rint(back * 255).astype(np.uint8), alpha


def shrunk(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((WORK, WORK), Image.Resampling.BOX), np.float32) / 255


def test_far_pixels_are_the_originals_and_the_object_is_gone(scene) -> None:
    image, true, alpha = scene
    result = full_background(image, shrunk(true), alpha)
    far = np.ones((SIDE, SIDE), bool)
    far[28:116, 28:100] = False
    np.testing.assert_array_equal(result[far], image[far])
    assert np.abs(result.astype(int) - true)[alpha == 1].mean() < 10
    assert np.abs(result.astype(int) - true)[80:92, 48:80].mean() < 10  # shadow


def test_a_model_that_is_too_dark_leaves_no_seam(scene) -> None:
    image, true, alpha = scene
    result = full_background(image, shrunk(true) - 0.08, alpha)
    assert np.abs(result.astype(int) - true)[alpha == 1].mean() < 16  # 21 without δ


def test_what_the_model_removed_is_seen_without_a_guide(scene) -> None:
    image, true, alpha = scene
    found = removed(shrunk(image), shrunk(true), None)
    square = resized_plane(alpha, (WORK, WORK), Image.Resampling.BOX) > 0.5
    assert found[square].all()
    assert found.mean() < 2.5 * square.mean()
    np.testing.assert_array_equal(full_background(image, shrunk(true), None)[:24], image[:24])


def test_a_noisy_model_does_not_repaint_the_picture(scene) -> None:
    image, true, alpha = scene
    noise = np.random.default_rng(1).normal(0, 0.15, (WORK, WORK, 3))
    cover = resized_plane(alpha, (WORK, WORK), Image.Resampling.BOX)
    assert removed(shrunk(image), (shrunk(true) + noise).clip(0, 1), cover).mean() < 3 * (cover > 0.02).mean()


def test_nothing_in_front_gives_the_original(scene) -> None:
    image, _, alpha = scene
    np.testing.assert_array_equal(full_background(image, shrunk(image) * 0.9, 0 * alpha), image)
