"""Light and shadow of pasted objects: bounded, where they belong, and without traces where nothing is."""

import numpy as np
import pytest

from omnialpha.data.compositing import EXPOSURE, Light, contact_shadow, draw_light, match_light, shaded

LIGHT = Light(lean=0.5, depth=0.25, opacity=0.5, contact=0.7, softness=0.02)


def box(size: int = 64, rows: slice = slice(20, 50), columns: slice = slice(24, 34)) -> np.ndarray:
    """Alpha (size, size) of an upright rectangle."""
    alpha = np.zeros((size, size), np.float32)
    alpha[rows, columns] = 1
    return alpha


def layer(colour: tuple[float, float, float]) -> np.ndarray:
    alpha = box()[..., None]
    return np.concatenate([np.array(colour, np.float32) * alpha, alpha], axis=-1)


def test_an_object_takes_on_the_scenes_light() -> None:
    grey, orange = layer((0.5, 0.5, 0.5)), np.broadcast_to(np.array([0.4, 0.2, 0.1], np.float32), (64, 64, 3))
    lit = match_light(grey, orange)
    inside = box() == 1
    red, green, blue = lit[inside][0, :3]
    assert red > green > blue  # the cast
    assert 0.3 < green < 0.5  # darker, and far from the scene's own 0.2
    assert (lit[..., 3] == grey[..., 3]).all()
    assert (lit[~inside] == 0).all()
    half = match_light(grey, orange, 0.5)[inside][0]
    assert green < half[1] < 0.5
    np.testing.assert_allclose(match_light(grey, orange, 0.0), grey, atol=1e-6)


@pytest.mark.parametrize("scene", [0.0, 1.0])
def test_the_match_is_bounded(scene: float) -> None:
    lit = match_light(layer((0.5, 0.5, 0.5)), np.full((64, 64, 3), scene, np.float32))[box() == 1][0, :3]
    assert 0.5 * EXPOSURE[0] - 1e-6 <= lit.min()
    assert lit.max() <= 0.5 * EXPOSURE[1] + 0.07


def test_only_the_surroundings_count() -> None:
    scene = np.full((64, 64, 3), 0.5, np.float32)
    far = scene.copy()
    far[:6], far[:, :6] = 1.0, 1.0
    near = scene.copy()
    near[:, 36:40] = 1.0
    plain, unchanged, changed = (match_light(layer((0.3, 0.4, 0.5)), backdrop) for backdrop in (scene, far, near))
    assert np.array_equal(plain, unchanged)
    assert not np.array_equal(plain, changed)


def test_a_shadow_starts_at_the_foot_and_leans() -> None:
    darkness = contact_shadow(box(), LIGHT)
    assert 0 <= darkness.min() <= darkness.max() <= 1
    # Laid flat, the box of height 30 reaches 7.5 rows back and 15 columns to the right.
    assert (darkness[:38] < 0.02).all()
    assert (darkness[56:] < 0.02).all()
    back_right, back_left = darkness[42:46, 37:45].mean(), darkness[42:46, 13:21].mean()
    assert back_right > 0.1 > 5 * back_left
    assert darkness[50, 29] > 0.3  # under the foot, where it touches
    mirrored = contact_shadow(box()[:, ::-1], Light(lean=-0.5, depth=0.25, opacity=0.5, contact=0.7, softness=0.02))
    np.testing.assert_allclose(mirrored[:, ::-1], darkness, atol=1e-5)


def test_what_hangs_high_does_not_touch() -> None:
    table = box(rows=slice(20, 24), columns=slice(10, 54))
    table[20:50, 10:14] = 1  # one leg; the top reaches far to the right of it
    darkness = contact_shadow(table, Light(lean=0.0, depth=0.1, opacity=0.0, contact=0.7, softness=0.02))
    assert darkness[50, 12] > 0.25
    assert darkness[:, 30:].max() < 0.02


def test_nothing_throws_no_shadow_and_glass_a_faint_one() -> None:
    assert not contact_shadow(np.zeros((8, 8), np.float32), LIGHT).any()
    full, faint = contact_shadow(box(), LIGHT), contact_shadow(box() * 0.3, LIGHT)
    behind = (slice(42, 46), slice(37, 45))
    assert faint[behind].mean() == pytest.approx(0.3 * full[behind].mean(), rel=0.05)


def test_shading_darkens_colours_only() -> None:
    picture = np.full((2, 2, 4), 0.8, np.float32)
    result = shaded(picture, np.array([[0, 0.5], [1, 0]], np.float32))
    np.testing.assert_allclose(result[..., 0], [[0.8, 0.4], [0, 0.8]])
    assert (result[..., 3] == np.float32(0.8)).all()
    assert (picture == np.float32(0.8)).all()


def test_a_seed_fixes_the_light() -> None:
    first, same, other = (draw_light(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == same != other
