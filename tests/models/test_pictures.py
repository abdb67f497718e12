"""Pictures in and out: forms, guides, and resizing without colour bleeding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from omnialpha.errors import ImageError, InputError
from omnialpha.models.pictures import as_guide, as_image, resize_layers, resized, to_image, to_tensor


def test_every_form_of_a_picture_becomes_the_same_image(tmp_path: Path) -> None:
    image = tiny.picture(opaque=False)
    image.save(tmp_path / "x.png")
    array = np.array(image)
    forms: list[Any] = [tmp_path / "x.png", array, array / 255, torch.from_numpy(array / 255).permute(2, 0, 1)]
    for form in forms:
        assert as_image(form) == image
    assert as_image(image.convert("L")).getpixel((3, 3)) == (*[image.convert("L").getpixel((3, 3))] * 3, 255)


@pytest.mark.parametrize("value", [3, None, b"x", {}])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="expected a picture"):
        as_image(value)


def test_unusable_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        as_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="no pixels"):
        as_image(Image.new("RGBA", (0, 4)))
    with pytest.raises(InputError, match=r"shape \(3 or 4, H, W\)"):
        as_image(torch.zeros(1, 4, 8, 8))
    with pytest.raises(InputError, match='mode "I;16"'):
        as_image(Image.new("I;16", (4, 4)))


def test_tensor_round_trip() -> None:
    image = tiny.picture(opaque=False)
    tensor = to_tensor(image)
    assert tensor.shape == (4, 32, 48)
    assert tensor[:, 5, 7].mul(255).round().int().tolist() == list(image.getpixel((7, 5)))  # type: ignore[arg-type]
    assert to_image(tensor) == image


def test_guide_keeps_its_values() -> None:
    trimap = tiny.mask()
    trimap.paste(128, (0, 0, 5, 5))
    guide = as_guide(trimap, "trimap")
    assert [np.unique(channel).tolist() for channel in np.moveaxis(np.array(guide), -1, 0)] == [[0, 128, 255]] * 3 + [
        [255]
    ]


def test_resized_is_pillow_lanczos_and_nothing_at_the_same_size() -> None:
    image = tiny.picture(opaque=False)
    assert resized(image, image.size) is image
    assert resized(image, (20, 30)) == image.resize((20, 30), Image.Resampling.LANCZOS)


@pytest.mark.parametrize("size", [(96, 64), (20, 12)])
def test_resizing_layers_does_not_bleed_colours_of_transparent_pixels(size: tuple[int, int]) -> None:
    """Red on transparent green stays pure red however soft its edge gets."""
    layer = torch.zeros(1, 4, 32, 48)
    layer[:, 1] = 1
    layer[:, :, 8:24, 8:24] = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 4, 1, 1)
    out = resize_layers(layer, size)
    assert out.shape == (1, 4, size[1], size[0])
    assert 0 <= out.min() <= out.max() <= 1
    visible = out[0, 3] > 0.01
    assert ((out[0, 3] > 0.01) & (out[0, 3] < 0.99)).any()
    torch.testing.assert_close(out[0, 0][visible], torch.ones(int(visible.sum())), atol=1e-4, rtol=0)
    assert out[0, 1][visible].max() < 1e-4


def test_resizing_opaque_layers_equals_pillow() -> None:
    image = tiny.picture(size=(40, 40)).point(lambda value: 64 + value // 2)  # no overshoot: Pillow clips in between
    image.putalpha(255)
    expected = np.asarray(image.resize((25, 60), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    received = resize_layers(to_tensor(image)[None], (25, 60))[0].permute(1, 2, 0).numpy()
    assert np.abs(received - expected).max() < 1.5 / 255
