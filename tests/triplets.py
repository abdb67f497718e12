"""A sample of the data pipeline, with pictures on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omnialpha.alphalayers.triplet import Triplet


def disk(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A red disk with a soft edge, RGBA, of (width, height)."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    distance = np.hypot(x - (size[0] - 1) / 2, y - (size[1] - 1) / 2)
    alpha = np.clip(0.4 * min(size) - distance, 0, 1)
    pixels = np.dstack([np.full_like(alpha, 0.9), np.full_like(alpha, 0.2), np.full_like(alpha, 0.1), alpha])
    pixels[alpha == 0] = 0
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def triplet(folder: Path, size: tuple[int, int] = (48, 32), **fields: Any) -> Triplet:
    """A sample whose stages "collect" to "edit" are done: a disk over a gradient."""
    foreground, scene = disk(size), Image.linear_gradient("L").resize(size).convert("RGB")
    composite = scene.copy()
    composite.paste(foreground, mask=foreground)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"foreground": foreground, "composite": composite, "background": scene}
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    values: dict[str, Any] = {
        "id": "0" * 64,
        "seed": 7,
        "name": "tests/disk",
        "source": "tests",
        "identity": "disk",
        "given_caption": "a red disk",
        "foreground_caption": "a red disk",
        "composite_caption": "a red disk in a park",
        "instruction": "Replace the background with a park.",
    }
    values |= {name: folder / f"{name}.png" for name in pictures}
    return Triplet(**(values | fields))
