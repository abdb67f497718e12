"""Draw synthetic scenes: RGBA cut-outs placed over photographs, with every layer known exactly.

A `Corpus` holds the prepared cut-outs and backgrounds of `omnialpha.data.corpora` in memory; `draw_scene` composes one
`Scene` from it, seeded, so that sample i of step s is the same picture in every run. A scene is what the 21 tasks are
made from (Table 1): foregrounds front to back, the background, their composite, and a caption for each.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.tasks import TASKS

PHOTO_WEIGHT = 3.0  # photographs are the minority of the cut-outs and what users bring: draw them more often
COVERAGE = (0.2, 0.7)  # share of the picture that a cut-out covers when it is alone
SHARED_COVERAGE = (0.08, 0.3)  # and when there are several
LONGEST = 1.2  # a thin cut-out is not made longer than this share of the picture to reach its coverage


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """One foreground.

    Attributes:
        image: premultiplied (mode "RGBa", so that resizing blends colours correctly).
        fill: sum of alpha over the area of the square on its longest side, in [0, 1].
        caption: what it shows.
        name: the object, as the split knows it.
        weight: how often it is drawn, relative to others.
    """

    image: Image.Image
    fill: float
    caption: str
    name: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """One opaque background photograph."""

    image: Image.Image
    caption: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Layers of one picture, all of the same size.

    Attributes:
        foregrounds: front to back, float32 (H, W, 4) in [0, 1], straight alpha, RGB 0 where alpha is 0.
        background: float32 (H, W, 4), opaque; None when it is not known (matting data without it).
        composite: float32 (H, W, 4), opaque: the foregrounds over the background, with their shadows where
            `data.staging` made the scene.
        captions: one per foreground.
        background_caption: what the background shows.
        composite_caption: what the whole picture shows.
    """

    foregrounds: tuple[np.ndarray, ...]
    background: np.ndarray | None
    composite: np.ndarray
    captions: tuple[str, ...]
    background_caption: str
    composite_caption: str


class Stock:
    """Cut-outs and backgrounds in memory, to draw scenes from.

    Attributes:
        cutouts: at least one.
        backdrops: at least one.
        weights: chance of each cut-out to be drawn.
    """

    def __init__(self, cutouts: Sequence[Cutout], backdrops: Sequence[Backdrop]) -> None:
        self.cutouts, self.backdrops = cutouts, backdrops
        weights = np.array([cutout.weight for cutout in cutouts])
        self.weights = weights / weights.sum()


class Corpus(Stock):
    """Prepared cut-outs and backgrounds of one split, decoded into memory.

    Args:
        folder: output of `omnialpha.data.corpora.prepare`, with its `index.jsonl`.
        split: "train" or "test".

    Raises:
        InputError: there is no index, or the split has no foregrounds or no backgrounds.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        index = Path(folder) / "index.jsonl"
        if not index.is_file():
            raise InputError(f"{folder}: no index.jsonl; make it with `python -m omnialpha.data.corpora {folder}`.")
        records = [json.loads(line) for line in index.read_text().splitlines()]
        records = sorted((r for r in records if r["split"] == split), key=lambda r: r["id"])
        cutouts = [_read_cutout(index.parent, r) for r in records if r["kind"] == "foreground"]
        backdrops = [_read_backdrop(index.parent, r) for r in records if r["kind"] == "background"]
        if not cutouts or not backdrops:
            raise InputError(f"{index}: split {split!r} has {len(cutouts)} cut-outs, {len(backdrops)} scenes.")
        super().__init__(cutouts, backdrops)

    def words(self) -> list[str]:
        """All captions and, a few times over, all wordings of the tasks: what a tokenizer is trained on."""
        wordings = [
            wording.replace("{text}", "") for t in TASKS.values() for wording in (t.instruction, *t.paraphrases)
        ]
        captions = [cutout.caption for cutout in self.cutouts] + [backdrop.caption for backdrop in self.backdrops]
        return 3 * wordings + captions


def draw_scene(corpus: Stock, rng: np.random.Generator, size: int, num_foregrounds: int = 1) -> Scene:
    """Compose a random scene.

    Args:
        corpus: where cut-outs and backgrounds come from.
        rng: source of every choice.
        size: side of the square picture, pixels.
        num_foregrounds: how many cut-outs, at least one; later ones may overlap earlier ones.

    Returns:
        The scene with its layers.
    """
    backdrop_caption, background = _draw_background(corpus, rng, size)
    picks = rng.choice(len(corpus.cutouts), num_foregrounds, replace=False, p=corpus.weights)
    low, high = COVERAGE if num_foregrounds == 1 else SHARED_COVERAGE
    front_to_back = []
    for pick, anchor in zip(picks, _anchors(rng, num_foregrounds), strict=True):
        cutout = corpus.cutouts[pick]
        scale = min(LONGEST, (rng.uniform(low, high) / cutout.fill) ** 0.5)
        front_to_back.append(place(cutout.image, rng, size, scale=scale, anchor=anchor))
    composite = background
    for layer in reversed(front_to_back):
        composite = composite_over(layer, composite)
    captions = tuple(corpus.cutouts[pick].caption for pick in picks)
    return Scene(
        foregrounds=tuple(front_to_back),
        background=background,
        composite=composite,
        captions=captions,
        background_caption=backdrop_caption,
        composite_caption=caption_whole(captions, backdrop_caption),
    )


def caption_several(captions: Sequence[str]) -> str:
    """One caption for several foregrounds; "" when one of theirs is not known.

    >>> caption_several(["a red kite", "a dog"]), caption_several(["a red kite", ""])
    ('a red kite and a dog', '')
    """
    return " and ".join(captions) if all(captions) else ""


def caption_whole(captions: Sequence[str], background_caption: str) -> str:
    """Caption of a whole picture from those of its layers; "" when one of them is not known.

    >>> caption_whole(["a red kite", "a dog"], "a beach")
    'a red kite and a dog, a beach'
    """
    parts = (caption_several(captions), background_caption)
    return ", ".join(parts) if all(parts) else ""


def place(
    cutout: Image.Image, rng: np.random.Generator, size: int, *, scale: float, anchor: tuple[float, float]
) -> np.ndarray:
    """Put a cut-out on an empty square canvas, with a random mirror, tilt and brightness.

    Args:
        cutout: premultiplied "RGBa" image.
        rng: source of mirror, tilt and brightness.
        size: side of the canvas, pixels.
        scale: longest side of the cut-out as a share of the canvas.
        anchor: centre of the cut-out, (x, y) in [0, 1].

    Returns:
        float32 (size, size, 4), straight alpha, RGB 0 where alpha is 0.
    """
    if rng.random() < 0.5:
        cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = float(rng.normal(0, 8))
    if abs(angle) > 4:
        cutout = tilted(cutout, angle)
    factor = scale * size / max(cutout.size)
    width, height = (max(1, round(side * factor)) for side in cutout.size)
    layer = on_canvas(
        cutout.resize((width, height), Image.Resampling.BICUBIC if factor < 1 else Image.Resampling.BILINEAR),
        (size, size),
        (round(anchor[0] * size - width / 2), round(anchor[1] * size - height / 2)),
    )
    colour = np.clip(layer[..., :3] * rng.uniform(0.75, 1.15), 0, 1)
    return np.concatenate([colour, layer[..., 3:]], axis=-1)


def tilted(cutout: Image.Image, degrees: float) -> Image.Image:
    """Turn a premultiplied "RGBa" image anticlockwise; it grows so that nothing is cut off."""
    # Rotating premultiplied channels separately keeps colours clean: PIL's rotate knows no "RGBa".
    bands = [band.rotate(degrees, Image.Resampling.BILINEAR, expand=True) for band in cutout.split()]
    return Image.merge("RGBa", bands)


def on_canvas(cutout: Image.Image, size: tuple[int, int], corner: tuple[int, int]) -> np.ndarray:
    """Put a premultiplied "RGBa" image on an empty canvas.

    Args:
        cutout: the image; what does not fit is cut off.
        size: width and height of the canvas, pixels.
        corner: where its left upper corner lies, (x, y).

    Returns:
        float32 (height, width, 4), straight alpha, RGB 0 where alpha is 0.
    """
    canvas = Image.new("RGBa", size)
    canvas.paste(cutout, corner)
    premultiplied = np.asarray(canvas, dtype=np.float32) / 255
    alpha = premultiplied[..., 3:]
    colour = np.divide(premultiplied[..., :3], alpha, out=np.zeros_like(premultiplied[..., :3]), where=alpha > 0)
    return np.concatenate([colour, alpha], axis=-1)


def composite_over(front: np.ndarray, opaque: np.ndarray) -> np.ndarray:
    """Lay a straight-alpha layer over an opaque picture: C = α·F + (1 − α)·B, both (H, W, 4)."""
    alpha = front[..., 3:]
    out = opaque.copy()
    out[..., :3] = front[..., :3] * alpha + opaque[..., :3] * (1 - alpha)
    return out


def _anchors(rng: np.random.Generator, count: int) -> Sequence[tuple[float, float]]:
    """Centres spread from left to right in random order, so that several objects overlap only in part."""
    if count == 1:
        return [(float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.4, 0.6)))]
    columns = rng.permutation(count)
    step = 1 / count
    return [((c + float(rng.uniform(0.3, 0.7))) * step, float(rng.uniform(0.35, 0.65))) for c in columns]


def _draw_background(corpus: Stock, rng: np.random.Generator, size: int) -> tuple[str, np.ndarray]:
    backdrop = corpus.backdrops[int(rng.integers(len(corpus.backdrops)))]
    width, height = backdrop.image.size
    side = rng.uniform(0.4, 1.0) * min(width, height)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    colour = crop_to(backdrop.image, (size, size), (left, top, left + side, top + side), mirror=rng.random() < 0.5)
    colour = np.clip(colour * rng.uniform(0.8, 1.2, 3).astype(np.float32), 0, 1)
    return backdrop.caption, np.concatenate([colour, np.ones_like(colour[..., :1])], axis=-1)


def crop_to(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float], *, mirror: bool
) -> np.ndarray:
    """A part (left, top, right, bottom) of a photograph at a size (width, height); (H, W, 3) float32 in [0, 1]."""
    part = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    if mirror:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part, dtype=np.float32) / 255


def as_cutout(image: Image.Image, *, caption: str, name: str, weight: float = 1.0) -> Cutout:
    """A picture with transparency as a cut-out."""
    premultiplied = image.convert("RGBA").convert("RGBa")
    covered = float(np.asarray(premultiplied.getchannel("a"), dtype=np.float32).sum()) / 255
    fill = max(covered / max(premultiplied.size) ** 2, 1e-3)
    return Cutout(image=premultiplied, fill=fill, caption=caption, name=name, weight=weight)


def _read_cutout(root: Path, record: dict[str, Any]) -> Cutout:
    weight = PHOTO_WEIGHT if record["photographic"] else 1.0
    with Image.open(root / record["path"]) as image:
        return as_cutout(image, caption=record["caption"], name=record["object"], weight=weight)


def _read_backdrop(root: Path, record: dict[str, Any]) -> Backdrop:
    with Image.open(root / record["path"]) as image:
        return Backdrop(image=image.convert("RGB"), caption=record["caption"], name=record["object"])
