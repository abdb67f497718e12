"""The animation: flat at first, apart in the middle, and back."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from omnialpha.imaging.layers import Layer, LayerStack

RED, BLUE = (220, 20, 20), (20, 20, 220)


def _stack() -> LayerStack:
    """A blue background, a red square in its middle, and a hidden green layer."""
    square = Image.new("RGBA", (80, 60))
    square.paste(RED, (25, 15, 55, 45))
    layers = [Layer(Image.new("RGBA", (80, 60), BLUE)), Layer(square), Layer(Image.new("RGBA", (80, 60), "lime"))]
    layers[2].visible = False
    return LayerStack(layers)


def _frames(path: Path) -> list[Image.Image]:
    frames = []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(image.convert("RGB"))
    return frames


def _middle(frame: Image.Image, colour: tuple[int, int, int]) -> float:
    """Mean column of the pixels of about that colour."""
    near = np.abs(np.asarray(frame).astype(int) - colour).max(axis=-1) < 60
    return float(np.nonzero(near)[1].mean())


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_layers_come_apart_and_back(tmp_path: Path, name: str) -> None:
    _stack().save(tmp_path / name, format="preview")
    with Image.open(tmp_path / name) as image:
        assert image.format == name[2:].upper()
        assert image.info["loop"] == 0
    frames = _frames(tmp_path / name)
    assert len(frames) == 32
    flat, apart = frames[0], frames[16]
    left = (flat.width - 80) // 2, (flat.height - 60) // 2
    expected = Image.alpha_composite(Image.new("RGBA", (80, 60), "white"), _stack().flatten()).convert("RGB")
    shown = flat.crop((*left, left[0] + 80, left[1] + 60))
    assert np.mean(np.asarray(ImageChops.difference(shown, expected))) < 6
    assert abs(_middle(flat, RED) - _middle(flat, BLUE)) < 2
    # Cards are 0.75 of the width apart at the end, the background at the left; on the way they move steadily.
    gaps = [_middle(frame, RED) - _middle(frame, BLUE) for frame in frames[: 16 + 1]]
    assert gaps[16] == pytest.approx(60, abs=12)
    assert all(later > earlier - 1 for earlier, later in itertools.pairwise(gaps))
    assert np.mean(np.asarray(ImageChops.difference(frames[31], frames[1]))) < 3
    assert not np.any(np.abs(np.asarray(apart).astype(int) - (0, 255, 0)).max(axis=-1) < 60)


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    LayerStack([Layer(Image.new("RGBA", (1000, 500), "red"))]).save(tmp_path / "a.gif")
    assert max(_frames(tmp_path / "a.gif")[0].size) < 500
