"""OpenEXR: 32-bit floats, linear light, premultiplied; a part per layer (``exr_layers``: one part for all).

The first part is the merged picture, which is all that many programs read; a part per layer follows, back to front,
each with its name and its own data window. Opacity, visibility and metadata, which EXR does not know, are kept as JSON
in the attribute "omnialpha" of the first part. Compositors blend in linear light and so get other values than
the merged picture in soft edges, which is blended in sRGB like everywhere else.
"""

import json
import os
from collections.abc import Iterator, Mapping
from logging import getLogger
from typing import Any

import numpy as np

from omnialpha.errors import ImageError
from omnialpha.extras import require
from omnialpha.formats import _checks, _manifest
from omnialpha.imaging.colour import from_linear, to_linear
from omnialpha.imaging.files import atomic_write, explained, opened
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import check_size, premultiply, unpremultiply

logger = getLogger(__name__)

MERGED = "merged"
_ATTRIBUTE = "omnialpha"
_DENSITY = "xDensity"  # standard attribute: pixels per inch
_CHROMATICITIES = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)  # of sRGB's red, green, blue and white
_BYTES_PER_SAMPLE = 4

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


def write(stack: LayerStack, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a stack as an EXR of several parts, which appears only when it is complete.

    Args:
        stack: What to write.
        path: Final file.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, or it cannot be written.
        MissingExtraError: The extra ``formats`` is not installed.
    """
    openexr = require("OpenEXR", extra="formats")
    merged = {**header(stack, (0, 0, *stack.size)), **description(stack)}
    parts = [openexr.Part(merged, channels(stack.flatten_array()), MERGED)]
    names = {MERGED}
    for number, layer in enumerate(stack, start=1):
        label = layer.name.replace("\0", "").encode(errors="replace").decode() or f"Layer {number}"
        label = label if label not in names else f"{label} ({number})"  # names of parts are unique
        names.add(label)
        box = (*layer.offset, *layer.image.size)
        parts.append(openexr.Part(header(stack, box), channels(layer.array()), label))
    with atomic_write(path, overwrite=overwrite) as temporary:
        openexr.File(parts).write(str(temporary))


def header(stack: LayerStack, box: Box) -> dict[str, Any]:
    """Attributes of a part whose pixels lie in ``box`` on the stack's canvas."""
    openexr = require("OpenEXR", extra="formats")
    attributes = {
        "compression": openexr.ZIP_COMPRESSION,
        "type": openexr.scanlineimage,
        "displayWindow": _window((0, 0, *stack.size)),
        "dataWindow": _window(box),
        "chromaticities": _CHROMATICITIES,
    }
    if (dpi := _manifest.dpi(stack)) is not None:
        attributes |= {_DENSITY: dpi[0], "pixelAspectRatio": dpi[0] / dpi[1]}
    return attributes


def description(stack: LayerStack) -> dict[str, str]:
    """The attribute that keeps what EXR has no place for."""
    manifest = _manifest.describe(stack)
    for entry, layer in zip(manifest["layers"], stack, strict=True):
        entry["size"] = list(layer.image.size)  # in a single part the window does not tell
    return {_ATTRIBUTE: json.dumps(manifest)}


def channels(array: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
    """Channels of a picture.

    Args:
        array: ``(H, W, 4)`` floats in [0, 1], straight alpha, sRGB.
        prefix: In front of the names R, G, B and A.

    Returns:
        Name → ``(H, W)`` ``float32``, linear light, premultiplied.
    """
    linear = premultiply(to_linear(array)).astype(np.float32)
    return {prefix + letter: np.ascontiguousarray(linear[..., index]) for index, letter in enumerate("RGBA")}


def read(path: str | os.PathLike[str]) -> LayerStack:
    """Read an EXR of one or many parts: every group of channels R, G, B (and A), or Y, is a layer.

    Args:
        path: The file.

    Returns:
        The stack. Layers of other programs are in the order of the file, the first one at the bottom. Values outside
        [0, 1] are clipped, channels that are no colours left out; both are logged.

    Raises:
        ImageError: The file cannot be used; the message names it and says what to do.
        MissingExtraError: The extra ``formats`` is not installed.
    """
    openexr = require("OpenEXR", extra="formats")
    with opened(path) as (stream, name), explained(name):
        headers = [part.header for part in openexr.File(stream, header_only=True).parts]
        _check_headers(headers, name)
        left, top, *canvas = _box(headers[0]["displayWindow"])
        stream.seek(0)
        parts = openexr.File(stream, separate_channels=True).parts
        if len(parts) < len(headers):  # OpenEXR drops a part that it cannot decode, and goes on
            raise ImageError(f"{name}: the pixels of a part are damaged; export or download it again")
        groups = [group for part in parts for group in _groups(part, name)]
        if not groups:
            raise ImageError(f"{name}: has no channels R, G and B, nor Y; export its colours")
        manifest = _manifest.ours(headers[0].get(_ATTRIBUTE), len(groups) - 1, name)
        if manifest is None:
            layers = _checks.collect(_others_layers(groups, (left, top), name), name)
            return LayerStack(layers, (canvas[0], canvas[1]), _manifest.with_dpi({}, _dpi(headers[0])))
        own = [group for group in groups if group[0] not in ("", MERGED)]
        layers = _checks.collect(_our_layers(own, manifest, name), name)
        return LayerStack(layers, (canvas[0], canvas[1]), _manifest.metadata(manifest, name))


Group = tuple[str, Box, dict[str, np.ndarray]]
"""A layer's name, where its pixels lie, and its channels by their letter."""


def _our_layers(groups: list[Group], manifest: Mapping[str, Any], name: str) -> Iterator[Layer]:
    for (_, (x, y, _, _), planes), entry in zip(groups, manifest["layers"], strict=True):
        fields = _manifest.fields(entry, name)
        width, height = _checks.pair(entry.get("size"), "size", name)
        left, top = max(fields["offset"][0] - x, 0), max(fields["offset"][1] - y, 0)
        cut = {letter: plane[top : top + height, left : left + width] for letter, plane in planes.items()}
        if {plane.shape for plane in cut.values()} != {(height, width)} or not width * height:
            raise ImageError(f"{name}: its layers are not where its description says; write it again")
        yield Layer.from_array(_pixels(cut, name), **fields)


def _others_layers(groups: list[Group], origin: tuple[int, int], name: str) -> Iterator[Layer]:
    for label, (x, y, _, _), planes in groups:
        yield Layer.from_array(_pixels(planes, name), label, offset=(x - origin[0], y - origin[1]))


def _groups(part: Any, name: str) -> Iterator[Group]:
    """Channels of a part that belong together: those whose names differ in what follows the last dot."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for channel, data in part.channels.items():
        prefix, _, letter = channel.rpartition(".")
        found.setdefault(prefix, {})[letter] = data.pixels
    for prefix, planes in found.items():
        if not ({"R", "G", "B"} <= planes.keys() or "Y" in planes):
            logger.warning('%s: channels "%s" are no colours; left out', name, ", ".join(planes))
            continue
        label = ".".join(filter(None, (part.name() or "", prefix)))
        yield label, _box(part.header["dataWindow"]), planes


def _pixels(planes: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """``(H, W, 4)`` floats in [0, 1], straight alpha, sRGB, of linear premultiplied channels."""
    letters = "RGB" if "R" in planes else "YYY"
    alpha = planes.get("A", np.ones_like(planes[letters[0]]))
    linear = np.stack([*(planes[letter] for letter in letters), alpha], axis=-1).astype(np.float32)
    if not np.isfinite(linear).all():
        logger.warning("%s: has values that are not finite; read as black or white", name)
        linear = np.nan_to_num(linear, posinf=1.0, neginf=0.0)
    alpha = np.clip(linear[..., 3:], 0, 1)
    slack = 1e-5  # of rounding
    if (linear < -slack).any() or (linear[..., :3] > alpha + slack).any() or (linear[..., 3:] > 1 + slack).any():
        logger.warning("%s: has values darker than black or brighter than white; clipped", name)
    straight = unpremultiply(np.concatenate([np.maximum(linear[..., :3], 0), alpha], axis=-1))
    return from_linear(straight)


def _check_headers(headers: list[dict[str, Any]], name: str) -> None:
    """Refuse what is too large or of another kind before its pixels are read."""
    samples = 0
    for attributes in headers:
        if "deep" in str(attributes.get("type")):
            raise ImageError(f"{name}: holds deep data (many samples per pixel); flatten it first")
        if any((channel.xSampling, channel.ySampling) != (1, 1) for channel in attributes["channels"]):
            raise ImageError(f"{name}: has channels of half the size (luminance and chroma); save it as RGB")
        for window in ("displayWindow", "dataWindow"):
            check_size(_box(attributes[window])[2:], name)
        width, height = _box(attributes["dataWindow"])[2:]
        samples += width * height * len(attributes["channels"])
    if samples > _checks.MAX_STACK_PIXELS:  # four bytes each, like an 8-bit RGBA pixel
        raise ImageError(
            f"{name}: its layers have more than the {_checks.MAX_STACK_PIXELS / 1e6:.0f} million samples that are "
            "read; crop or merge some first"
        )


def _dpi(attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    """The resolution that a header states."""
    density, aspect = float(attributes.get(_DENSITY, 0)), float(attributes.get("pixelAspectRatio", 1))
    if not (1 < density < 100_000 and 0 < aspect < 100):
        return None
    return round(density, 2), round(density / aspect, 2)


def _window(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """A box as EXR stores it: its first and its last pixel."""
    x, y, width, height = box
    return np.array([x, y], np.int32), np.array([x + width - 1, y + height - 1], np.int32)


def _box(window: tuple[np.ndarray, np.ndarray]) -> Box:
    (left, top), (right, bottom) = (tuple(int(value) for value in corner) for corner in window)
    return left, top, right - left + 1, bottom - top + 1
