"""Landscapes drawn from noise: backgrounds for whoever has cut-outs, but neither photographs nor a model.

They have what matters to layers: a horizon, depth, texture at every scale, light from one side. They do not look like
photographs; a folder of real ones (`--backgrounds`) is always better.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Colours, 0 to 255, of a kind of landscape from top to bottom."""

    sky: Colour
    haze: Colour
    ridge: Colour
    ground: Colour
    ground_far: Colour


_PLACES: Mapping[str, _Place] = {
    "a green meadow before distant hills under a cloudy sky": _Place(
        sky=(86, 140, 205), haze=(205, 220, 232), ridge=(84, 112, 108), ground=(62, 104, 40), ground_far=(126, 156, 84)
    ),
    "a sandy desert with dunes under a pale sky": _Place(
        sky=(120, 164, 208),
        haze=(232, 220, 200),
        ridge=(190, 148, 104),
        ground=(202, 156, 102),
        ground_far=(226, 190, 140),
    ),
    "a calm lake before mountains in the evening light": _Place(
        sky=(92, 104, 158), haze=(244, 190, 150), ridge=(70, 66, 96), ground=(56, 78, 112), ground_far=(190, 160, 156)
    ),
    "a snowy field before white mountains on a clear day": _Place(
        sky=(96, 150, 214),
        haze=(214, 228, 240),
        ridge=(150, 168, 192),
        ground=(232, 238, 246),
        ground_far=(206, 218, 232),
    ),
    "a rocky plain before dark mountains under an overcast sky": _Place(
        sky=(136, 146, 158), haze=(196, 200, 204), ridge=(82, 84, 92), ground=(112, 104, 94), ground_far=(150, 146, 138)
    ),
}


def scenery(seed: int, width: int, height: int) -> tuple[Image.Image, str]:
    """Draw a landscape.

    Args:
        seed: Of every choice; equal seeds give equal pictures.
        width: In pixels.
        height: In pixels.

    Returns:
        "RGB" picture, and what it shows.
    """
    rng = np.random.default_rng(seed)
    caption = list(_PLACES)[int(rng.integers(len(_PLACES)))]
    place = _PLACES[caption]
    horizon = int(height * rng.uniform(0.4, 0.6))
    rows = np.linspace(0, 1, height)[:, None, None]
    clouds = np.clip(3 * (_noise(rng, width, height, wide=4) - 0.45), 0, 1)[..., None] ** 1.5
    up = np.clip(rows * height / max(horizon, 1), 0, 1)
    picture = np.array(place.sky) * (1 - up) + np.array(place.haze) * up
    picture = picture + (245 - picture) * 0.75 * clouds * (1 - up)
    for depth in (0.45, 0.8):  # far ridges lie in the haze
        line = horizon - height * 0.3 * (1.2 - depth) * _noise(rng, width, 1, wide=1)[0]
        behind = (np.arange(height)[:, None] >= line)[..., None]
        colour = np.array(place.haze) * (1 - depth) + np.array(place.ridge) * depth
        shade = 0.85 + 0.3 * _noise(rng, width, height, wide=1)[..., None]
        picture = np.where(behind, colour * shade, picture)
    near = np.clip((np.arange(height) - horizon) / max(height - horizon, 1), 0, 1)[:, None, None]
    ground = np.array(place.ground_far) * (1 - near) + np.array(place.ground) * near
    # Seen at a low angle: structures are wider than high.
    texture = _noise(rng, width, height, wide=0.5, flat=4, rough=0.8)[..., None] - 0.5
    picture = np.where(near > 0, ground * (1 + (0.4 + 1.2 * near) * texture), picture)
    light = 1 + 0.12 * np.linspace(-1, 1, width)[None, :, None] * rng.choice([-1, 1])
    grain = rng.normal(0, 2.5, (height, width, 1))
    return Image.fromarray(np.clip(np.rint(picture * light + grain), 0, 255).astype(np.uint8)), caption


def _noise(
    rng: np.random.Generator, width: int, height: int, *, wide: float, flat: float = 1, rough: float = 0.5
) -> np.ndarray:
    """Fractal noise in [0, 1], ``(height, width)``: sums of random grids, each twice as fine as the one before.

    Args:
        rng: Source of the grids.
        width: In pixels.
        height: In pixels.
        wide: Stretches the coarsest structures to the side.
        flat: Compresses them vertically.
        rough: Strength of each grid as a share of that of the one before.
    """
    total, weight = np.zeros((height, width)), 0.0
    for octave in range(2, 9):
        columns = max(2, min(width, round(2**octave / wide)))
        rows = max(2, min(height, round(2**octave * flat * height / max(width, height))))
        grid = Image.fromarray(rng.random((rows, columns), np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) * rough**octave
        weight += rough**octave
    return np.clip(total / weight, 0, 1)
