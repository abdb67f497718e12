"""Aspect buckets: on the grid, within the area, few of them, and little of any picture is lost."""

import math

import numpy as np
import pytest
from PIL import Image

from omnialpha.data.buckets import bucket_size, fit, picture_size
from omnialpha.errors import ImageError, InputError


@pytest.mark.parametrize(("area", "grid"), [(64 * 64, 16), (512 * 512, 32), (1024 * 1024, 32)])
def test_buckets_lie_on_the_grid_within_the_area_and_do_not_enlarge(area, grid) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        width, height = (int(v) for v in rng.integers(grid, 3000, 2))
        bucket = bucket_size((width, height), area=area, grid=grid)
        assert bucket[0] % grid == bucket[1] % grid == 0
        assert grid * grid <= bucket[0] * bucket[1] <= area
        assert bucket[0] * bucket[1] <= 1.25 * width * height
        assert bucket_size((height, width), area=area, grid=grid) == bucket[::-1]


def test_photographs_of_all_common_shapes_meet_in_few_buckets_and_lose_little() -> None:
    rng = np.random.default_rng(1)
    buckets, lost = set(), []
    for _ in range(500):
        ratio = 2 ** rng.uniform(-1, 1)
        height = int(rng.integers(900, 2000))
        width = int(height * ratio)
        bucket = bucket_size((width, height), area=512 * 512, grid=32)
        buckets.add(bucket)
        lost.append(1 - 2 ** -abs(math.log2(bucket[0] / bucket[1]) - math.log2(width / height)))
    assert len(buckets) <= 9
    assert np.mean(lost) < 0.06
    assert max(lost) < 0.16


def test_an_area_below_one_cell_is_refused() -> None:
    with pytest.raises(InputError, match="at least 32 × 32"):
        bucket_size((100, 100), area=1000, grid=32)


def test_a_picture_is_cropped_around_its_centre_and_keeps_its_proportions() -> None:
    pixels = np.zeros((40, 80, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[10:30, 30:50, 0] = 255  # a square in the middle
    fitted = fit(Image.fromarray(pixels), (20, 20))
    assert fitted.shape == (20, 20, 4)
    np.testing.assert_array_equal(fitted[..., 0] > 0.5, np.pad(np.ones((10, 10), bool), 5))


def test_any_size_fits_into_any_bucket() -> None:
    # Rounding used to put the box of some of these outside the picture by 1e-14 pixels.
    for side in range(1, 400, 7):
        picture = Image.new("RGBA", (side, 1 + side * 7 // 11))
        for size in ((48, 32), (272, 208), (16, 16)):
            assert fit(picture, size).shape == (size[1], size[0], 4)


def test_hidden_colours_do_not_bleed() -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[..., :3] = (255, 0, 0)
    pixels[:, 16:] = (0, 255, 0, 255)
    fitted = fit(Image.fromarray(pixels), (8, 8))
    assert (fitted[..., 0] == 0).all()
    assert (fitted[fitted[..., 3] == 0] == 0).all()


def test_the_size_of_a_file_is_that_of_the_upright_picture(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGBA", (30, 20)).save(tmp_path / "b.png")
    assert picture_size(tmp_path / "a.jpg") == (20, 30)
    assert picture_size(tmp_path / "b.png") == (30, 20)
    with pytest.raises(ImageError, match="no such file"):
        picture_size(tmp_path / "c.png")
