"""A small stack of layers with everything that a layered format has to keep."""

import numpy as np
from PIL import Image

from omnialpha.imaging.layers import Layer, LayerStack


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Random RGBA with some rows transparent (their colours too have to survive) and some opaque."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    pixels[: height // 4, :, 3] = 0
    pixels[height // 4 : height // 2, :, 3] = 255
    return Image.fromarray(pixels)


def sample_stack() -> LayerStack:
    """Four layers: full, shifted over the edge, hidden, and wholly outside the canvas."""
    return LayerStack(
        [
            Layer(noise(31, 23, 0), "background"),
            Layer(noise(20, 17, 1), "玻璃杯 «glass»", opacity=0.37, offset=(-7, 11)),
            Layer(noise(31, 23, 2), "hidden", visible=False),
            Layer(noise(4, 5, 3), "glow", opacity=0.5, offset=(100, -50)),
        ],
        size=(31, 23),
        metadata={"task": "decomposition_auto", "prompt": 'a <glass> & "more"', "seed": 7, "path": "\udcff"},
    )


def difference(a: Image.Image, b: Image.Image) -> int:
    """Largest difference of two pictures in steps of 1/255."""
    assert a.size == b.size
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b)).max())
