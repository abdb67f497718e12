"""Realistic scenes: objects that stand on the ground of a photograph, in its light and with their shadows.

`stage` places given cut-outs into a given photograph; `draw_staged_scene` draws them from a stock, as
`scenes.draw_scene` does for plain scenes. The shadows are part of the composite and of no layer: they are what a
removal has to take away besides the object, and what makes the composite differ from its layers laid over each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from omnialpha.data.compositing import contact_shadow, draw_light, match_light, shaded
from omnialpha.data.scenes import (
    Backdrop,
    Cutout,
    Scene,
    Stock,
    caption_whole,
    composite_over,
    crop_to,
    on_canvas,
    tilted,
)
from omnialpha.data.soft_alpha import glass, smoke

SCALE = (0.45, 0.8)  # of a single object, as a share of the largest that fits into the picture
SHARED_SCALE = (0.35, 0.6)  # and of one among several
ENLARGED = 1.5  # more than this blurs a cut-out
PART = (0.75, 1.0)  # share of the largest part of the photograph that has the picture's shape
GROUND = (0.78, 0.96)  # where an object's foot stands, from far to near, as a share of the picture's height
FAR = 0.7  # size of an object at the far end of the ground, of its size at the near end
LIFT = 0.35  # how much higher what flies is, as a share of the picture's height
TILT = 2.5  # degrees, standard deviation, of what stands; three times that for what flies
STRENGTH = (0.5, 1.0)  # of the light match

_FLYING = """
    airplane aeroplane airship balloon bat bee blimp bomber butterfly cloud comet copter dragonfly drone fighter
    firework fireworks glider helicopter hummingbird jet kite lightning moon moth parachute plane planet rainbow
    satellite shuttle smoke snowflake star sun ufo zeppelin
"""
FLYING = frozenset(_FLYING.split())
"""Words of a caption that say of an object that it stands on no ground."""


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """Where an object goes: its middle and its lowest row, as shares of the picture; `scale` as `SCALE`."""

    centre: float
    foot: float
    scale: float


def draw_staged_scene(
    stock: Stock, rng: np.random.Generator, size: int, num_foregrounds: int = 1, *, soft: float = 0.0
) -> Scene:
    """Draw a realistic scene.

    Args:
        stock: Where cut-outs and photographs come from.
        rng: Source of every choice.
        size: Side of the square picture, pixels.
        num_foregrounds: How many cut-outs, at least one; they may overlap.
        soft: Share of them that become glass or smoke, half and half; their captions say which.

    Returns:
        The scene; its composite has the shadows, its layers have none.
    """
    picks = rng.choice(len(stock.cutouts), num_foregrounds, replace=False, p=stock.weights)
    backdrop = stock.backdrops[int(rng.integers(len(stock.backdrops)))]
    cutouts = [_softened(stock.cutouts[pick], rng, size, soft) for pick in picks]
    return stage(cutouts, backdrop, rng, (size, size))


def stage(cutouts: Sequence[Cutout], backdrop: Backdrop, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Place cut-outs into a photograph.

    Position, scale, mirror, tilt and light are drawn; what is nearer stands lower, is larger and covers what is behind.
    An object whose caption says that it flies is placed higher and throws no shadow.

    Args:
        cutouts: At least one.
        backdrop: The photograph.
        rng: Source of every choice.
        size: Width and height of the picture, pixels.

    Returns:
        The scene, its foregrounds front to back; layers are lit as the scene is, shadows are in the composite only.
    """
    background = _background(backdrop, rng, size)
    light, strength = draw_light(rng), float(rng.uniform(*STRENGTH))
    placed = sorted(zip(_spots(rng, len(cutouts)), cutouts, strict=True), key=lambda pair: -pair[0].foot)
    layers = [match_light(_lay(cutout, spot, rng, size), background, strength) for spot, cutout in placed]
    composite = background
    for layer, (_, cutout) in zip(reversed(layers), reversed(placed), strict=True):
        if not flies(cutout.caption):
            composite = shaded(composite, contact_shadow(layer[..., 3], light))
        composite = composite_over(layer, composite)
    captions = tuple(cutout.caption for _, cutout in placed)
    return Scene(
        foregrounds=tuple(layers),
        background=background,
        composite=composite,
        captions=captions,
        background_caption=backdrop.caption,
        composite_caption=caption_whole(captions, backdrop.caption),
    )


def flies(caption: str) -> bool:
    """Whether a caption names something that stands on no ground.

    >>> flies("A red hot air balloon."), flies("a star fruit tree"), flies("a hen")
    (True, True, False)
    """
    return not FLYING.isdisjoint(caption.lower().replace(".", " ").replace(",", " ").split())


def _softened(cutout: Cutout, rng: np.random.Generator, size: int, share: float) -> Cutout:
    """Glass or smoke in the place of a share of the cut-outs."""
    kind = float(rng.random())
    if kind >= share:
        return cutout
    return glass(cutout, rng) if kind < share / 2 else smoke(rng, size // 2)


def _background(backdrop: Backdrop, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A part of the photograph, from its lower edge upwards, where the ground is; (H, W, 4)."""
    whole = backdrop.image
    share = float(rng.uniform(*PART)) * min(whole.width / size[0], whole.height / size[1])
    width, height = share * size[0], share * size[1]
    left = float(rng.uniform(0, whole.width - width))
    box = (left, whole.height - height, left + width, whole.height)
    colour = crop_to(whole, size, box, mirror=rng.random() < 0.5)
    return np.concatenate([colour, np.ones_like(colour[..., :1])], axis=-1)


def _spots(rng: np.random.Generator, count: int) -> list[_Spot]:
    """Places from left to right in random order, so that several objects overlap only in part."""
    near, far = GROUND[1], GROUND[0]
    low, high = SCALE if count == 1 else SHARED_SCALE
    spots = []
    for column in rng.permutation(count):
        nearness = float(rng.uniform(0, 1))
        centre = (column + float(rng.uniform(0.3, 0.7))) / count
        scale = float(rng.uniform(low, high)) * (FAR + (1 - FAR) * nearness)
        spots.append(_Spot(centre=centre, foot=far + (near - far) * nearness, scale=scale))
    return spots


def _lay(cutout: Cutout, spot: _Spot, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """The cut-out on the scene's canvas; (H, W, 4)."""
    flying = flies(cutout.caption)
    image = cutout.image
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = float(rng.normal(0, TILT * (3 if flying else 1)))
    if abs(angle) > 0.5:  # less is not seen, and turning blurs
        image = tilted(image, angle)
    image = image.crop(image.getchannel("a").getbbox())
    factor = min(spot.scale * min(size[0] / image.width, size[1] / image.height), ENLARGED)
    width, height = (max(1, round(side * factor)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC if factor < 1 else Image.Resampling.BILINEAR)
    foot = spot.foot - LIFT if flying else spot.foot
    left = float(np.clip(spot.centre * size[0] - width / 2, 0, size[0] - width))
    top = float(np.clip(foot * size[1] - height, 0, size[1] - height))
    return on_canvas(image, size, (round(left), round(top)))
