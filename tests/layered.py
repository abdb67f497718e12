"""Samples of a manifest on disk: soft discs over a gradient, every layer a file."""

from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.data.manifest import Sample
from omnialpha.data.scenes import composite_over


def write_sample(folder: Path, name: str, size: tuple[int, int] = (48, 32), foregrounds: int = 1) -> Sample:
    """Write a sample of (width, height) pixels into ``folder / name``; the name seeds its colours."""
    rng = np.random.default_rng(list(name.encode()))
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / min(size)
    background = np.ones((height, width, 4), np.float32)
    background[..., :3] = rng.random(3) * (0.4 + 0.6 * (x / x.max())[..., None])
    pictures = {"background": background}
    composite = background
    for i in reversed(range(foregrounds)):
        radius = np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7))
        layer = np.empty((height, width, 4), np.float32)
        layer[..., :3] = rng.random(3)
        layer[..., 3] = np.clip((0.35 - radius) * 8, 0, 1)
        pictures[f"front{i}"] = layer
        composite = composite_over(layer, composite)
    pictures["composite"] = composite
    (folder / name).mkdir(parents=True)
    for key, picture in pictures.items():
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(folder / name / f"{key}.png")
    return Sample(
        id=name,
        foregrounds=tuple(folder / name / f"front{i}.png" for i in range(foregrounds)),
        background=folder / name / "background.png",
        composite=folder / name / "composite.png",
        captions=tuple(f"thing {i} of {name}" for i in range(foregrounds)),
        background_caption=f"behind {name}",
    )
