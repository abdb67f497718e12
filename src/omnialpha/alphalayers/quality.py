"""Stage 2: what can be said of a cut-out without any model's opinion but its looks, and which cut-outs to leave out.

`measure` looks at one cut-out; its record is small and depends on no limit, so limits can change without measuring
again. `judge` sees all records at once, because near-duplicates and a share to keep are properties of a collection.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.extras import require
from omnialpha.imaging.masks import PRECISE_THRESHOLD, VISIBLE
from omnialpha.imaging.rgba import to_pil

SIDES = ("top", "right", "bottom", "left")
HASH_BITS = 64
GREY = 128
"""What cut-outs lie on for whoever knows no transparency: neither black nor white hair is lost on it."""

Box = tuple[int, int, int, int]
Aesthetic = Callable[[Image.Image], float]
"""An opaque "RGB" picture to its score, as `aesthetic.LaionAesthetic` is one."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was measured of a cut-out.

    Attributes:
        width: Of the picture, pixels.
        height: Of the picture, pixels.
        box: Left, top, right and bottom of what is visible (alpha > 0.05), right and bottom outside; all 0 when empty.
        coverage: Mean alpha of the picture, from 0 (empty) to 1 (opaque).
        soft: Share of the visible pixels that are not opaque (alpha ≤ 0.95).
        contact: For top, right, bottom and left of the frame: how much of the object's width (or height) runs into
            that side with full opacity. An object cut off by the frame does so; one that was merely trimmed closely
            ends in a soft edge.
        hash: Perceptual hash of the visible part, 16 hex digits; "" when empty.
        aesthetic: LAION-AES score, about 1 to 10; None when it was not asked for.
    """

    width: int
    height: int
    box: Box
    coverage: float
    soft: float
    contact: tuple[float, float, float, float]
    hash: str
    aesthetic: float | None = None

    @property
    def extent(self) -> int:
        """Longer side of the visible part in pixels: the resolution at which the object is known."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Quality":
        """The record again after `dataclasses.asdict` and JSON, which knows no tuples."""
        return cls(**{**record, "box": tuple(record["box"]), "contact": tuple(record["contact"])})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a cut-out must be like to be kept.

    Attributes:
        least_extent: Pixels of its visible part's longer side.
        least_coverage: Mean alpha of the picture.
        most_coverage: Mean alpha of the picture; an opaque picture has nothing to be composed with.
        most_soft: Share of visible pixels that are not opaque; below 1 it drops glass, smoke and mere haze.
        most_contact: Share of the object that may run into one side of the frame; 1 keeps truncated objects.
        distance: Differing bits, of 64, up to which two hashes are of near-duplicates; -1 keeps duplicates.
        least_aesthetic: LAION-AES score; None does not ask for one.
        keep_share: Share kept of what is left after everything else, the most aesthetic first; 1 keeps all.
    """

    least_extent: int = 64
    least_coverage: float = 0.01
    most_coverage: float = 0.99
    most_soft: float = 1.0
    most_contact: float = 0.3
    distance: int = 4
    least_aesthetic: float | None = None
    keep_share: float = 1.0

    def __post_init__(self) -> None:
        shares = ("least_coverage", "most_coverage", "most_soft", "most_contact", "keep_share")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a share from 0 to 1, not {getattr(self, name)}; divide percent by 100")
        if not -1 <= self.distance <= HASH_BITS:
            raise InputError(f"distance is a number of bits from -1 to {HASH_BITS}, not {self.distance}; 4 is usual")

    @property
    def aesthetic(self) -> bool:
        """Whether they need LAION-AES scores."""
        return self.least_aesthetic is not None or self.keep_share < 1


def measure(cutout: np.ndarray, aesthetic: Aesthetic | None = None) -> Quality:
    """Look at one cut-out.

    Args:
        cutout: ``(H, W, 4)`` floats in [0, 1], straight alpha.
        aesthetic: Scores the visible part over grey; left out, there is no score.

    Returns:
        Its record.

    Raises:
        InputError: Another shape or range.
        MissingExtraError: ImageHash is not installed.
    """
    if cutout.ndim != 3 or cutout.shape[2] != 4 or 0 in cutout.shape:
        raise InputError(f"a cut-out has shape (H, W, 4), not {cutout.shape}; give it with its alpha channel")
    if not (cutout.min() >= 0 and cutout.max() <= 1):  # written so that NaN fails too
        raise InputError(f"a cut-out lies in [0, 1], not [{cutout.min()}, {cutout.max()}]; scale it first")
    alpha = cutout[..., 3]
    visible = alpha > VISIBLE
    box = _box(visible)
    shown = isolated(cutout, box) if visible.any() else None
    return Quality(
        width=cutout.shape[1],
        height=cutout.shape[0],
        box=box,
        coverage=round(float(alpha.mean(dtype=np.float64)), 6),
        soft=round(float((alpha[visible] <= PRECISE_THRESHOLD).mean()), 6) if shown else 1.0,
        contact=_contact(alpha, box),
        hash=str(require("imagehash", "alphalayers").phash(shown)) if shown else "",
        aesthetic=round(aesthetic(shown), 4) if aesthetic is not None and shown else None,
    )


def isolated(cutout: np.ndarray, box: Box) -> Image.Image:
    """The visible part of a cut-out in the middle of a grey square: the same wherever it lay on its canvas.

    Args:
        cutout: ``(H, W, 4)`` floats in [0, 1], straight alpha.
        box: Of the visible part.

    Returns:
        "RGB" picture whose side is the longer side of the box.
    """
    part = to_pil(cutout).crop(box)
    side = max(part.size)
    square = Image.new("RGBA", (side, side), (GREY, GREY, GREY, 255))
    square.alpha_composite(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square.convert("RGB")


def judge(qualities: Mapping[str, Quality], limits: Limits) -> dict[str, str]:
    """Choose what to leave out.

    Of near-duplicates the better one stays: the more aesthetic, else the larger, else the one whose id comes first. A
    cut-out is compared only with those that stay, so a chain of small steps is not dropped as a whole.

    Args:
        qualities: Id to record, in any order.
        limits: What to ask for.

    Returns:
        Id to reason for everything dropped, in the order of the ids; the same whatever the order of `qualities`.

    Raises:
        InputError: The limits ask for aesthetic scores that were not measured.
    """
    unscored = [name for name, quality in qualities.items() if quality.aesthetic is None and quality.hash]
    if limits.aesthetic and unscored:
        raise InputError(
            f"{len(unscored)} of {len(qualities)} cut-outs have no aesthetic score; name CLIP and the LAION-AES head, "
            "or leave least_aesthetic and keep_share alone"
        )
    dropped = {name: reason for name, quality in qualities.items() if (reason := _fault(quality, limits))}
    ranked = sorted(qualities.keys() - dropped.keys(), key=lambda name: _rank(name, qualities[name]))
    dropped |= {
        name: f"near-duplicate: repeats {original}"
        for name, original in near_duplicates({name: qualities[name].hash for name in ranked}, limits.distance)
    }
    left = [name for name in ranked if name not in dropped]
    kept = round(limits.keep_share * len(left))
    dropped |= dict.fromkeys(left[kept:], f"not among the {limits.keep_share:.0%} that look best")
    return dict(sorted(dropped.items()))


def near_duplicates(hashes: Mapping[str, str], distance: int) -> Iterator[tuple[str, str]]:
    """Find what is nearly the same as something before it.

    Hashes that differ in at most d of 64 bits agree in at least one of d + 1 pieces of them. So each is compared only
    with those that share a piece: for small d few of thousands.

    Args:
        hashes: Name to 16 hex digits, the best first.
        distance: Most differing bits; below 0 nothing is found.

    Yields:
        A name, and the first of the kept names that it repeats.
    """
    if distance < 0:
        return
    # d + 1 pieces, but at most one per bit; beyond that every pair has to be compared.
    edges = np.linspace(0, HASH_BITS, min(distance, HASH_BITS - 1) + 2).round().astype(int).tolist()
    pieces = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
    kept: list[tuple[str, int]] = []
    sharing: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for name, digits in hashes.items():
        value = int(digits, 16)
        keys = [(low, value >> low & mask) for low, mask in pieces]
        candidates = range(len(kept)) if distance >= HASH_BITS else sorted({i for key in keys for i in sharing[key]})
        original = next((kept[i][0] for i in candidates if (kept[i][1] ^ value).bit_count() <= distance), None)
        if original is not None:
            yield name, original
            continue
        for key in keys:
            sharing[key].append(len(kept))
        kept.append((name, value))


def _fault(quality: Quality, limits: Limits) -> str:
    """What is wrong with a cut-out by itself, "" when nothing is."""
    if not quality.hash:
        return "empty: nothing is visible"
    if quality.coverage < limits.least_coverage:
        return f"nearly empty: {quality.coverage:.2%} covered, at least {limits.least_coverage:.2%}"
    if quality.coverage > limits.most_coverage:
        return f"no transparency: {quality.coverage:.2%} covered, at most {limits.most_coverage:.2%}"
    if quality.extent < limits.least_extent:
        return f"too small: {quality.extent} pixels, at least {limits.least_extent}"
    if quality.soft > limits.most_soft:
        return f"too translucent: {quality.soft:.0%} of it, at most {limits.most_soft:.0%}"
    share, side = max(zip(quality.contact, SIDES, strict=True))
    if share > limits.most_contact:
        return f"truncated: {share:.0%} of it runs into the {side} of the frame, at most {limits.most_contact:.0%}"
    if limits.least_aesthetic is not None and (quality.aesthetic or 0.0) < limits.least_aesthetic:
        return f"not beautiful enough: LAION-AES {quality.aesthetic}, at least {limits.least_aesthetic}"
    return ""


def _rank(name: str, quality: Quality) -> tuple[float, int, str]:
    """Sorts the best first."""
    return -(quality.aesthetic or 0.0), -quality.extent, name


def _box(visible: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if rows.size == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _contact(alpha: np.ndarray, box: Box) -> tuple[float, float, float, float]:
    """For each of `SIDES` the opaque pixels on it per pixel of the object's extent along it."""
    width, height = max(box[2] - box[0], 1), max(box[3] - box[1], 1)
    borders = ((alpha[0], width), (alpha[:, -1], height), (alpha[-1], width), (alpha[:, 0], height))
    top, right, bottom, left = (
        round(float((border > PRECISE_THRESHOLD).sum()) / extent, 4) for border, extent in borders
    )
    return top, right, bottom, left
