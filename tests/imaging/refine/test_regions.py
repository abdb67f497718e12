"""Regions of a picture behind a doubtful alpha: the right shape from a wrong one, nothing where nothing is meant."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from omnialpha.imaging.refine.alpha import BELIEVED, Known, full_alpha, trust
from omnialpha.imaging.refine.planes import resized_plane
from omnialpha.imaging.refine.regions import AREA, decided, regions

SIDE, WORK = 192, 16


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A two-coloured cross on a grainy, shaded background: picture ``uint8`` and alpha."""
    y, x = np.mgrid[:SIDE, :SIDE]
    alpha = ((abs(x - 90) < 22) & (abs(y - 100) < 70)) | ((abs(y - 80) < 18) & (abs(x - 90) < 60))
    front = np.where((y < 90)[..., None], (0.85, 0.25, 0.2), (0.9, 0.8, 0.3))
    back = np.dstack([0.2 + 0.3 * x / SIDE, 0.5 + 0.2 * y / SIDE, 0.7 + 0 * x])
    picture = np.where(alpha[..., None], front, back)
    picture = picture + np.random.default_rng(0).normal(0, 0.03, (SIDE, SIDE, 1))
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8), alpha.astype(np.float32)


def blob() -> np.ndarray:
    """What a weak model makes of the cross: a soft disk off its centre."""
    y, x = np.mgrid[:WORK, :WORK]
    return np.clip((4.5 - np.hypot(x - 8.5, y - 7)) / 3 + 0.5, 0, 0.9).astype(np.float32)


def plain(raw: np.ndarray) -> np.ndarray:
    return resized_plane(raw, (SIDE, SIDE), Image.Resampling.BICUBIC).clip(0, 1)


def test_a_blob_becomes_the_object_of_the_picture() -> None:
    image, true = scene()
    found = regions(image, blob())
    assert np.abs(plain(blob()) - true).mean() > 0.1
    assert np.abs(found - true).mean() < 0.01


def test_a_doubtful_alpha_is_refined_to_the_objects_shape() -> None:
    image, true = scene()
    assert np.abs(full_alpha(image, blob()) - true).mean() < 0.01


@pytest.mark.parametrize(("work", "trusted"), [(48, False), (32, True)])
def test_an_alpha_that_is_only_too_soft_is_given_the_objects_shape_too(work: int, trusted: bool) -> None:
    image, true = scene()
    raw = gaussian_filter(resized_plane(true, (work, work), Image.Resampling.BOX), 1)
    small = np.asarray(Image.fromarray(image).resize((work, work), Image.Resampling.BOX), np.float32) / 255
    assert trust(small, raw) > 0.1
    assert (trust(small, raw) > BELIEVED) == trusted
    assert np.abs(full_alpha(image, raw) - true).mean() < 0.01  # 0.027 and 0.046 if it were held to


def test_a_right_alpha_stands_against_the_regions() -> None:
    """A part of the background's colours, as regions would not have it, which the right alpha knows."""
    image, true = scene()
    hole = slice(60, 80), slice(82, 98)
    image[hole] = image[20:40, 82:98]
    raw = resized_plane(true, (48, 48), Image.Resampling.BOX)
    assert regions(image, raw)[hole].mean() < 0.5
    assert full_alpha(image, raw)[hole].mean() > 0.9


def test_a_guide_that_tells_the_foreground_only_is_kept() -> None:
    image, true = scene()
    inside = np.zeros(true.shape, bool)
    inside[2:12, 2:12] = True  # what no region would be
    found = full_alpha(image, blob(), Known(mask=inside, value=inside.astype(np.float32)))
    assert found[inside].min() == 1
    assert np.abs(found - true)[~inside].mean() < 0.02


def test_a_guide_rules_out_what_has_the_objects_colours() -> None:
    image, true = scene()
    image[150:175, 165:190] = image[130:155, 78:103]  # something else of its colour and grain, which it does not touch
    outside = np.zeros((SIDE, SIDE), bool)
    outside[:, 155:] = True
    assert regions(image, blob())[155:170, 170:185].mean() > 0.9
    found = regions(image, blob(), outside)
    assert found[:, 156:].max() == 0
    assert np.abs(found - true)[:, :155].mean() < 0.01
    full = full_alpha(image, blob(), Known(mask=outside, value=np.zeros_like(true)))
    assert full[:, 155:].max() == 0


def test_in_an_even_picture_the_model_has_the_last_word() -> None:
    raw = blob()
    found = regions(np.full((SIDE, SIDE, 3), 128, np.uint8), raw)
    assert np.mean((found > 0.5) != (plain(raw) > 0.5)) < 0.08


def test_where_the_model_sees_nothing_nothing_is() -> None:
    image, _ = scene()
    np.testing.assert_allclose(regions(image, np.zeros((WORK, WORK), np.float32)), 0, atol=1e-6)


@pytest.mark.parametrize("shape", [(300, 500), (40, 30), (7, 1)])
def test_proportions_are_kept_and_small_pictures_stay_small(shape: tuple[int, int]) -> None:
    raw = np.ones((1, 1), np.float32)
    height, width = regions(np.zeros((*shape, 3), np.uint8), raw).shape
    assert height * width <= 1.02 * min(AREA, shape[0] * shape[1])
    assert abs(width / height - shape[1] / shape[0]) < 0.02


def test_contours_are_left_undecided() -> None:
    answer = np.zeros((20, 40), np.float32)
    answer[:, 20:] = 1
    answer[:, 30:32] = 0.5
    front, back = decided(answer, (80, 40))
    assert front.shape == (40, 80)
    assert back[:, :34].all()
    assert not (front | back)[:, 37:44].any()
    assert front[:, 46:54].all()
    assert not front[:, 60:64].any()
