"""Alpha at full size: beats interpolation, keeps what is known, agrees with Levin's Laplacian written out."""

import numpy as np
import pytest
from PIL import Image

from omnialpha.evaluation.matting import grad, sad
from omnialpha.imaging.refine.alpha import TRUST_RANGE, Known, full_alpha, noise, trust
from omnialpha.imaging.refine.local_linear import LocalLinear
from omnialpha.imaging.refine.planes import resized_plane, strips

SIDE, WORK = 256, 16


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture ``uint8`` and its alpha: a star with soft rim, green on a smooth warm background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    alpha = np.clip((0.3 + 0.06 * np.cos(7 * angle) - radius) * SIDE / 3 + 0.5, 0, 1).astype(np.float32)
    front = np.dstack([0.1 + 0 * x, 0.6 + 0.3 * x, 0.2 + 0.2 * y])
    back = np.dstack([0.8 + 0.2 * x, 0.3 + 0.2 * y, 0.6 - 0.2 * x])
    picture = alpha[..., None] * front + (1 - alpha[..., None]) * back + rng.normal(0, 0.004, front.shape)
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8), alpha


def test_a_true_alpha_shrunk_is_recovered_far_better_than_by_interpolation() -> None:
    image, true = scene()
    raw = resized_plane(true, (WORK, WORK), Image.Resampling.BOX)
    plain = resized_plane(raw, (SIDE, SIDE), Image.Resampling.BICUBIC).clip(0, 1)
    found = full_alpha(image, raw)
    assert found.shape == true.shape
    assert found.dtype == np.float32
    assert sad(found, true) < 0.3 * sad(plain, true)
    assert grad(found, true) < 0.3 * grad(plain, true)


def test_block_means_stay_those_of_a_trusted_model() -> None:
    image, true = scene()
    raw = resized_plane(true, (WORK, WORK), Image.Resampling.BOX)
    means = resized_plane(full_alpha(image, raw), (WORK, WORK), Image.Resampling.BOX)
    assert np.abs(means - raw).mean() < 0.01


def test_a_guide_is_obeyed_and_corrects_a_wrong_model() -> None:
    image, true = scene()
    raw = np.roll(resized_plane(true, (WORK, WORK), Image.Resampling.BOX), 2, axis=1)  # an eighth off
    sure = (true < 0.01) & (np.hypot(*(np.mgrid[:SIDE, :SIDE] / SIDE - 0.5)) > 0.38) | (true > 0.99)
    known = Known(mask=sure, value=(true > 0.5).astype(np.float32))
    found = full_alpha(image, raw, known)
    np.testing.assert_array_equal(found[sure], known.value[sure])
    assert sad(found, true) < 0.3 * sad(full_alpha(image, raw), true)


def test_with_both_sides_known_the_outline_of_a_wrong_model_does_not_count() -> None:
    image, true = scene()
    raw = resized_plane(true, (WORK, WORK), Image.Resampling.BOX)
    radius = np.hypot(*(np.mgrid[:SIDE, :SIDE] / SIDE - 0.5))
    known = Known(mask=(radius < 0.18) | (radius > 0.42), value=(radius < 0.3).astype(np.float32))
    right, wrong = (full_alpha(image, each, known) for each in (raw, np.roll(raw, 2, axis=1)))
    assert np.abs(right - wrong).mean() < 0.005
    assert np.abs(wrong - true).mean() < 0.005


def test_what_is_known_everywhere_is_the_answer() -> None:
    image, true = scene()
    known = Known(mask=np.ones_like(true, bool), value=true)
    np.testing.assert_array_equal(full_alpha(image, np.zeros((WORK, WORK)), known), true)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nothing_and_everything_stay(value: float) -> None:
    image, _ = scene()
    assert np.abs(full_alpha(image, np.full((WORK, WORK), value)) - value).max() < 1e-3


def test_any_size_and_a_model_as_large_as_the_input_work() -> None:
    image, true = scene()
    image, true = image[:197, :255], true[:197, :255]
    for size in ((16, 12), (255, 197)):
        raw = resized_plane(true, size, Image.Resampling.BOX)
        found = full_alpha(image, raw)
        assert found.shape == true.shape
        assert np.abs(found - true).mean() < 0.02


def test_a_model_whose_contours_follow_the_picture_is_trusted_more() -> None:
    image, true = scene()
    small = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    raw = resized_plane(true, (32, 32), Image.Resampling.BOX)
    assert trust(small, raw) > 3 * trust(small, np.roll(raw, 3, axis=0))
    assert trust(small, np.zeros_like(raw)) == TRUST_RANGE[1]


def test_noise_is_measured_past_the_contents() -> None:
    rng = np.random.default_rng(0)
    smooth = np.dstack([np.outer(np.linspace(0, 1, 64), np.linspace(0.2, 0.8, 64))] * 3)
    smooth[20:40, 20:40] = 0.9
    assert noise(smooth.astype(np.float32)) < 1e-8
    noisy = (smooth + rng.normal(0, 0.01, smooth.shape)).astype(np.float32)
    assert 0.8e-4 < noise(noisy) < 1.3e-4


def test_the_filter_is_levins_laplacian() -> None:
    """L p = |ω|·(p − filter(p)) against the closed form, window by window, away from the border."""
    rng = np.random.default_rng(0)
    image, p, epsilon = rng.random((7, 7, 3)).astype(np.float32), rng.random((7, 7)).astype(np.float32), 1e-2
    laplacian = np.zeros((49, 49))
    numbers = np.arange(49).reshape(7, 7)
    for y in range(1, 6):
        for x in range(1, 6):
            window = numbers[y - 1 : y + 2, x - 1 : x + 2].ravel()
            colours = image.reshape(-1, 3)[window] - image.reshape(-1, 3)[window].mean(axis=0)
            inverse = np.linalg.inv(colours.T @ colours / 9 + epsilon * np.eye(3))
            laplacian[np.ix_(window, window)] += np.eye(9) - (1 + colours @ inverse @ colours.T) / 9
    ours = 9 * (p - LocalLinear(image, 1, epsilon).filter(p))
    np.testing.assert_allclose(ours[2:5, 2:5], (laplacian @ p.ravel()).reshape(7, 7)[2:5, 2:5], atol=1e-4)


def test_strips_join_without_a_seam() -> None:
    plane = np.random.default_rng(0).random((20, 8)).astype(np.float32)
    whole = resized_plane(plane, (32, 700), Image.Resampling.BICUBIC)
    parts = [
        resized_plane(plane, (32, bottom - top), Image.Resampling.BICUBIC, rows)
        for top, bottom, rows in strips(whole.shape, plane.shape)
    ]
    assert len(parts) > 1
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_a_grey_picture_whose_colours_lie_on_a_line_is_solved() -> None:
    """Covariances of rank one: in single precision their determinants vanish."""
    y, x = np.mgrid[:48, :48]
    grey = np.repeat(np.where((x // 6 + y // 6) % 2, 0.0, 1.0)[..., None], 3, axis=-1).astype(np.float32)
    p = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    single, double = (LocalLinear(grey.astype(kind), 2, 1e-6).filter(p) for kind in (np.float32, np.float64))
    assert np.isfinite(single).all()
    np.testing.assert_allclose(single, double, atol=0.05)
