"""Drift between an input and a result: found to a fraction of a pixel, undone, or warned of."""

import logging

import numpy as np
import pytest
from PIL import Image, ImageFilter

from omnialpha.imaging.refine.alignment import Drift, aligned, estimate


@pytest.fixture(scope="module")
def large() -> Image.Image:
    """A smooth random picture, larger than what is cut from it, so that shifts bring in new content."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((400, 400), Image.Resampling.BICUBIC)
    return picture.filter(ImageFilter.GaussianBlur(1)).convert("RGBA")


def cut(large: Image.Image, x: float, y: float, scale: float) -> Image.Image:
    """160 × 128 pixels around the centre, content moved by (x, y) and enlarged: Pillow's own resampling."""
    width, height = 160 / scale, 128 / scale
    left, top = 200 - width / 2 - x / scale, 200 - height / 2 - y / scale
    return large.resize((160, 128), Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))


@pytest.mark.parametrize("drift", [(0, 0, 1.0), (1.5, -2.25, 1.0), (0, 0, 1.02), (-2, 3, 0.98)])
def test_drift_is_found(large: Image.Image, drift: tuple[float, float, float]) -> None:
    found = estimate(cut(large, 0, 0, 1), cut(large, *drift))
    assert (found.x, found.y) == pytest.approx(drift[:2], abs=0.15)
    assert found.scale == pytest.approx(drift[2], abs=6e-3)  # 0.4 pixels at the border


def test_drift_is_undone_and_logged(large: Image.Image, caplog: pytest.LogCaptureFixture) -> None:
    original, drifted = cut(large, 0, 0, 1), cut(large, 3, -2, 1.01)
    with caplog.at_level(logging.INFO):
        [result] = aligned([drifted], original, drifted)
    inner = (8, 8, 152, 120)

    def error(image: Image.Image) -> float:
        return float(np.abs(np.asarray(image.crop(inner), int) - np.asarray(original.crop(inner), int)).mean())

    assert error(result) < 0.25 * error(drifted)
    assert "corrected" in caplog.text


def test_a_large_drift_is_only_warned_of(large: Image.Image, caplog: pytest.LogCaptureFixture) -> None:
    drifted = cut(large, 12, 0, 1)
    [result] = aligned([drifted], cut(large, 0, 0, 1), drifted)
    assert result is drifted
    assert "too far" in caplog.text


def test_another_picture_has_not_drifted(large: Image.Image) -> None:
    assert estimate(cut(large, 0, 0, 1), cut(large.rotate(90), 0, 0, 1)) == Drift()


def test_transparent_pixels_do_not_bleed() -> None:
    image = Image.new("RGBA", (32, 32), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (8, 8, 24, 24))
    moved = np.asarray(Drift(x=0.5, y=0.5).undone(image))
    visible = moved[moved[..., 3] > 8]
    assert visible[:, 0].min() > 230
    assert visible[:, 1].max() < 25
