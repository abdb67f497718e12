"""Generation metrics against closed forms and literal versions."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import linalg
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from omnialpha.errors import InputError
from omnialpha.evaluation.generation import (
    BACKGROUNDS,
    FeatureStatistics,
    clip_score,
    feature_statistics,
    fid,
    frechet_distance,
    over_backgrounds,
    psnr,
    rgba_psnr,
    rgba_ssim,
    ssim,
)

RGB = hnp.arrays(np.uint8, (12, 13, 3))


def _covariance(rng: np.random.Generator, size: int, rank: int) -> np.ndarray:
    factor = rng.normal(size=(size, rank))
    return factor @ factor.T / rank


def test_frechet_of_commuting_gaussians_is_exact() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    a, b, mu = rng.uniform(0, 9, 64), rng.uniform(0, 9, 64), rng.normal(size=64)
    a[:20] = 0  # singular
    expected = (mu**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    ours = frechet_distance(mu, (basis * a) @ basis.T, np.zeros(64), (basis * b) @ basis.T)
    assert ours == pytest.approx(expected, rel=1e-13)


def test_frechet_against_the_matrix_root() -> None:
    rng = np.random.default_rng(1)
    s1, s2 = _covariance(rng, 12, 40), _covariance(rng, 12, 40)
    expected = np.trace(s1 + s2 - 2 * np.real(linalg.sqrtm(s1 @ s2)))
    assert frechet_distance(np.zeros(12), s1, np.zeros(12), s2) == pytest.approx(expected, rel=1e-9)


def test_frechet_in_one_dimension_and_of_points() -> None:
    assert frechet_distance(np.array(1.0), np.array(4.0), np.array(4.0), np.array(9.0)) == pytest.approx(10.0)
    zero = np.zeros((3, 3))
    assert frechet_distance(np.zeros(3), zero, np.ones(3), zero) == 3.0


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
def test_frechet_identity_symmetry_and_bounds(size: int, rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mu, s1, s2 = rng.normal(size=size), _covariance(rng, size, rank), _covariance(rng, size, rank)
    assert frechet_distance(mu, s1, mu, s1) == pytest.approx(0, abs=1e-12 * np.trace(s1))
    forth = frechet_distance(mu, s1, -mu, s2)
    assert frechet_distance(-mu, s2, mu, s1) == pytest.approx(forth)
    assert forth >= 4 * (mu**2).sum() - 1e-9


@pytest.mark.parametrize(
    ("mu", "sigma", "message"),
    [
        (np.zeros(2), np.eye(3), r"\(2, 2\) covariance"),
        (np.zeros(2), np.full((2, 2), np.nan), "two samples"),
        (np.zeros(2), np.array([[1.0, 1.0], [0.0, 1.0]]), "not symmetric"),
        (np.zeros(2), -np.eye(2), "negative eigenvalue"),
        (np.zeros(3), np.eye(3), "one extractor"),
    ],
)
def test_no_gaussian(mu: np.ndarray, sigma: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        frechet_distance(mu, sigma, np.zeros(2), np.eye(2))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 40), st.floats(0, 1e6))
def test_statistics_of_any_split(count: int, size: int, cut: int, offset: float) -> None:
    """Large means and small spreads: where the sum of squares would lose all digits."""
    features = np.random.default_rng(count).normal(size=(count, size)) + offset
    first, second = FeatureStatistics(), FeatureStatistics()
    first.update(features[:cut])
    for feature in features[cut:]:
        second.update(feature[None])
    first.merge(FeatureStatistics.from_dict(second.to_dict()))
    assert first.count == count
    assert first.mean == pytest.approx(features.mean(axis=0), rel=1e-12)
    assert first.covariance == pytest.approx(np.atleast_2d(np.cov(features.T)), rel=1e-6, abs=1e-8)


def test_statistics_refuse_what_does_not_fit() -> None:
    statistics = FeatureStatistics()
    with pytest.raises(InputError, match="at least 1"):
        _ = statistics.mean
    statistics.update(np.zeros((1, 2)))
    with pytest.raises(InputError, match="at least 2"):
        _ = statistics.covariance
    for features, message in ((np.zeros((1, 3)), "meet 2"), (np.zeros(3), "shape"), (np.array([[np.nan, 0]]), "NaN")):
        with pytest.raises(InputError, match=message):
            statistics.update(features)


def test_fid_with_a_stand_in_extractor() -> None:
    rng = np.random.default_rng(2)
    images = [rng.uniform(0, 1, (4, 4, 3)) for _ in range(8)]

    def features(image: Any) -> np.ndarray:
        return np.asarray(image).mean(axis=(0, 1))

    assert fid(images, images, features) == pytest.approx(0, abs=1e-12)
    brighter = [image + 0.5 for image in images]
    assert fid(images, brighter, features) == pytest.approx(0.75)
    assert feature_statistics(images, features).count == 8
    with pytest.raises(InputError, match="at least 2"):
        fid(images[:1], images, features)


@settings(max_examples=25, deadline=None)
@given(RGB, RGB)
def test_psnr_and_ssim(pred: np.ndarray, target: np.ndarray) -> None:
    mse = np.mean((pred.astype(float) - target) ** 2)
    assert psnr(pred, target) == pytest.approx(np.inf if mse == 0 else 20 * np.log10(255) - 10 * np.log10(mse))
    assert psnr(target, pred) == psnr(pred, target) == pytest.approx(psnr(pred / 255, target / 255))
    assert (psnr(pred, pred), ssim(pred, pred)) == (float("inf"), 1.0)
    assert ssim(pred, target) == pytest.approx(_literal_ssim(pred / 255, target / 255), abs=1e-9)
    assert -1 <= ssim(pred, target) <= 1


def test_psnr_and_ssim_equal_torchmetrics() -> None:
    rng = np.random.default_rng(4)
    target = rng.uniform(0, 1, (40, 33, 3))
    pred = np.clip(target + rng.normal(0, 0.1, target.shape), 0, 1)
    p, g = (torch.from_numpy(image).movedim(-1, 0)[None] for image in (pred, target))
    assert psnr(pred, target) == pytest.approx(float(peak_signal_noise_ratio(p, g, data_range=1.0)), rel=1e-6)
    _, local = structural_similarity_index_measure(p, g, data_range=1.0, return_full_image=True)
    inside = local[..., 5:-5, 5:-5]  # torchmetrics mirrors the picture at its border; the paper's windows fit into it
    assert ssim(pred, target) == pytest.approx(float(inside.mean()), rel=1e-6)


def _literal_ssim(p: np.ndarray, g: np.ndarray) -> float:
    """Window by window, as the paper writes it."""
    x = np.arange(-5, 6)
    window = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for y in range(p.shape[0] - 10):
        for z in range(p.shape[1] - 10):
            for c in range(3):
                a, b = p[y : y + 11, z : z + 11, c], g[y : y + 11, z : z + 11, c]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return float(np.mean(values))


def test_nine_backgrounds_cut_as_alphavae_does() -> None:
    """Every colour at every alpha, against the protocol's own arithmetic."""
    rgba = np.stack(np.meshgrid(np.arange(256), np.arange(256), indexing="ij"), axis=-1).astype(np.uint8)
    rgba = np.concatenate([np.repeat(rgba[..., :1], 3, axis=-1), rgba[..., 1:]], axis=-1)
    composites = over_backgrounds(Image.fromarray(rgba))
    assert list(composites) == ["gray", "black", "white", "red", "green", "blue", "yellow", "cyan", "magenta"]
    scaled = rgba.astype(np.float32) / 255.0
    for name, colour in BACKGROUNDS.items():
        back = np.array(colour, dtype=np.float32) / 255.0
        blended = scaled[..., 3:] * scaled[..., :3] + (1 - scaled[..., 3:]) * back
        expected = np.clip(blended * 255.0, 0, 255).astype(np.uint8)
        assert np.array_equal(composites[name], expected)
    assert over_backgrounds(np.full((1, 1, 4), [255, 0, 0, 128], np.uint8))["blue"][0, 0, 2] == 126  # 126.99999


def test_rgba_scores_per_background() -> None:
    image = np.random.default_rng(3).integers(0, 256, (16, 16, 4), np.uint8)
    other = image.copy()
    other[..., :3] = 255 - other[..., :3]
    other[..., 3] = image[..., 3]
    scores = rgba_psnr(other, image)
    assert list(scores) == list(BACKGROUNDS)
    for name, score in scores.items():
        assert score == psnr(over_backgrounds(other)[name], over_backgrounds(image)[name])
    assert set(rgba_psnr(image, image).values()) == {float("inf")}
    assert set(rgba_ssim(image, image).values()) == {1.0}


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("pred", "message"),
    [
        (np.zeros((12, 12, 4)), "RGB"),
        (np.zeros((12, 13, 3)), "differ in size"),
        (np.zeros((12, 12, 3), np.uint16), "65535"),
        (np.full((12, 12, 3), np.nan), "NaN"),
        (Image.new("L", (12, 12)), '"RGB", not "L"'),
    ],
)
def test_bad_pictures(metric: Any, pred: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        metric(pred, np.zeros((12, 12, 3)))


def test_small_pictures_have_no_ssim() -> None:
    with pytest.raises(InputError, match="11×11"):
        ssim(np.zeros((10, 20, 3)), np.zeros((10, 20, 3)))


def test_clip_score_is_a_clipped_cosine() -> None:
    assert clip_score(np.array([2.0, 0]), np.array([5.0, 0])) == 2.5
    assert clip_score(np.array([2.0, 0]), np.array([-5.0, 0])) == 0
    for text in (np.zeros(2), np.array([np.nan, 1]), np.zeros(3)):
        with pytest.raises(InputError):
            clip_score(np.array([2.0, 0]), text)
