"""Layers and stacks of layers, and the "over" operator that flattens them.

A ``LayerStack`` is a list of ``Layer`` from back (index 0) to front on a canvas of a fixed size. ``formats`` writes
and reads it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.rgba import MAX_PIXELS, premultiply, to_array, to_pil, unpremultiply

_FINEST_STEP = 0.25 / 65535
"""Less than that beside the steps of 8 bits is rounding: a quarter of a step of 16 bits."""


def over(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Lay one picture over another: Porter and Duff's "over".

    Args:
        front: ``(..., 4)`` floats in [0, 1], straight alpha, channels last.
        back: The same shape.

    Returns:
        The same shape, straight alpha; colours are 0 where nothing is visible.

    >>> over(np.array([1.0, 0, 0, 0.5]), np.array([0, 0, 1.0, 1.0])).tolist()
    [0.5, 0.0, 0.5, 1.0]
    """
    return unpremultiply(premultiply(front) + (1 - front[..., 3:]) * premultiply(back))


@dataclass
class Layer:
    """One layer of a stack.

    Attributes:
        image: "RGBA" image, straight alpha; its size may differ from the canvas.
        name: Shown by layer editors.
        opacity: Factor in [0, 1] on the alpha.
        visible: A hidden layer takes no part in ``flatten``.
        offset: Where the image's left upper corner lies on the canvas, (x, y) in pixels; it may be negative.
        deep: The same picture with more than 8 bits, ``(H, W, 4)`` ``float32`` in [0, 1], or None; set by
            ``from_array``, dropped when ``image`` is replaced. Formats that hold more than 8 bits write it.

    Raises:
        InputError: The opacity is out of range or the image is empty.
    """

    image: Image.Image
    name: str = ""
    opacity: float = 1.0
    visible: bool = True
    offset: tuple[int, int] = (0, 0)
    deep: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise InputError(f"the opacity of a layer lies in [0, 1], not {self.opacity}")
        if 0 in self.image.size:
            raise InputError(f"a layer needs at least one pixel, not {self.image.width}×{self.image.height}")
        if self.image.mode != "RGBA":
            self.image = self.image.convert("RGBA")

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "image":  # the old picture's values would no longer belong to it
            self.deep = None

    @classmethod
    def from_array(cls, array: np.ndarray, name: str = "", **fields: Any) -> "Layer":
        """Make a layer of an array and keep what 8 bits cannot hold.

        Args:
            array: ``(H, W, 4)``, straight alpha, sRGB: floats in [0, 1], which are clipped, ``uint16`` or ``uint8``.
            name: Name of the layer.
            fields: ``opacity``, ``visible`` and ``offset``.

        Raises:
            InputError: Another shape or type, or a value that is not a number.

        >>> layer = Layer.from_array(np.full((1, 1, 4), 1000, np.uint16))
        >>> layer.image.getpixel((0, 0)), layer.array()[0, 0, 0] * 65535
        ((4, 4, 4, 4), np.float32(1000.0))
        """
        if array.dtype == np.uint16:
            array = array.astype(np.float32) / np.float32(65535)
        layer = cls(to_pil(array), name, **fields)
        if array.dtype != np.uint8:
            values = np.clip(array, 0, 1).astype(np.float32)
            if np.abs(values - to_array(layer.image)).max() > _FINEST_STEP:
                layer.deep = values
        return layer

    def array(self) -> np.ndarray:
        """The picture at its full precision: ``(H, W, 4)`` ``float32`` in [0, 1], straight alpha."""
        return to_array(self.image) if self.deep is None else self.deep


class LayerStack(Sequence[Layer]):
    """Layers from back to front on one canvas; reads as a sequence, ``layers`` is the list to change."""

    def __init__(
        self,
        layers: Iterable[Layer] = (),
        size: tuple[int, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Stack layers on a canvas.

        Args:
            layers: Back to front: index 0 is the bottom.
            size: Width and height of the canvas in pixels; by default up to the right and lower ends of the layers.
            metadata: Provenance (task, prompt, seed, …) in JSON types, saved with the stack.

        Raises:
            InputError: The canvas has no pixels or more than ``MAX_PIXELS``.
        """
        self.layers = list(layers)
        ends = [(x.offset[0] + x.image.width, x.offset[1] + x.image.height) for x in self.layers]
        width, height = size if size is not None else (max((e[i] for e in ends), default=0) for i in (0, 1))
        if width < 1 or height < 1 or width * height > MAX_PIXELS:
            raise InputError(
                f"the canvas of a stack has 1 to {MAX_PIXELS} pixels, not {width}×{height}; "
                "give size=(width, height) or layers of another size"
            )
        self.size = (width, height)
        self.metadata: dict[str, Any] = dict(metadata or {})

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> "LayerStack": ...
    def __getitem__(self, index: int | slice) -> "Layer | LayerStack":
        """One layer, or the stack of some of them on the same canvas."""
        if isinstance(index, slice):
            return LayerStack(self.layers[index], self.size, self.metadata)
        return self.layers[index]

    def __len__(self) -> int:
        """Number of layers, hidden ones included."""
        return len(self.layers)

    def __repr__(self) -> str:
        """Size and names, for people."""
        return f"LayerStack({self.size[0]}×{self.size[1]}, {[layer.name for layer in self.layers]})"

    def flatten(self) -> Image.Image:
        """Lay all visible layers over each other.

        Returns:
            "RGBA" image of the canvas's size, straight alpha. Computed in floats and rounded once, at the end.
        """
        return to_pil(self.flatten_array())

    def flatten_array(self) -> np.ndarray:
        """Lay all visible layers over each other, without rounding.

        Returns:
            ``(H, W, 4)`` ``float32`` in [0, 1], straight alpha.
        """
        return unpremultiply(self._composite())

    def residual(self, image: Image.Image, name: str = "residual") -> Layer:
        """The layer that is missing on top of the stack to look like ``image``.

        With F the flattened stack (straight colour f, alpha φ), I the image (i, ι) and R the layer (r, ρ), "over" asks

            ι = ρ + φ(1 − ρ)        i·ι = r·ρ + f·φ(1 − ρ)

        The colour r exists in [0, 1] from a smallest ρ on (see ``_smallest_alpha``), which is what is returned, in
        steps of 1/255; a pixel that is right within 1/255 already gets ρ = 0. For an opaque image there always is a
        solution.

        Args:
            image: What ``flatten`` shall return, of the canvas's size.
            name: Name of the layer.

        Returns:
            A layer of the canvas's size. With it appended ``flatten`` equals ``image`` within 1/255 (colours of
            transparent pixels aside).

        Raises:
            InputError: Another size, or an image more transparent than the stack: a layer on top cannot uncover.
        """
        if image.size != self.size:
            raise InputError(f"a residual needs an image of the canvas's size {self.size}, not {image.size}")
        target, stack = to_array(image), self.flatten_array()
        alpha = np.where(_equal(stack, target), 0, _smallest_alpha(target, stack))[..., None]
        result_alpha = alpha + stack[..., 3:] * (1 - alpha)
        missing = target[..., :3] * result_alpha - stack[..., :3] * stack[..., 3:] * (1 - alpha)
        colours = np.divide(missing, alpha, out=np.zeros_like(missing), where=alpha > 0)
        layer = Layer(to_pil(np.concatenate([colours, alpha], axis=-1)), name)
        wrong = ~_equal(over(to_array(layer.image), stack), target)
        if wrong.any():
            raise InputError(
                f"no layer on top can turn the stack into this image: at {wrong.sum()} pixels the stack is less "
                "transparent, or translucent in another colour; give an opaque image, or hide layers"
            )
        return layer

    def save(self, path: str | os.PathLike[str], *, format: str | None = None, overwrite: bool = False) -> None:
        """Write the stack to a layered file; see ``omnialpha.formats.save``."""
        from omnialpha import formats  # formats are built on imaging: this import would be circular at the top

        formats.save(self, path, format=format, overwrite=overwrite)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "LayerStack":
        """Read a layered file; see ``omnialpha.formats.open``."""
        from omnialpha import formats

        return formats.open(path)

    def _composite(self) -> np.ndarray:
        """``(H, W, 4)`` floats, premultiplied."""
        width, height = self.size
        canvas = np.zeros((height, width, 4), np.float32)
        for layer in self.layers:
            x, y = layer.offset
            left, top = max(x, 0), max(y, 0)
            right, bottom = min(x + layer.image.width, width), min(y + layer.image.height, height)
            if not layer.visible or left >= right or top >= bottom:
                continue
            front = premultiply(layer.array()[top - y : bottom - y, left - x : right - x]) * layer.opacity
            region = canvas[top:bottom, left:right]
            region *= 1 - front[..., 3:]
            region += front
        return canvas


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(H, W)`` booleans: equal within 1/255 once rounded; where ``b`` is transparent colours do not count."""
    difference = np.abs(np.rint(a * 255) - np.rint(b * 255)) <= 1
    same: np.ndarray = difference[..., 3] & (difference[..., :3].all(axis=-1) | (np.rint(b[..., 3] * 255) == 0))
    return same


def _smallest_alpha(target: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """Smallest alpha of a layer on top that can turn ``stack`` into ``target``, rounded up to steps of 1/255.

    Solving "over" for r and asking 0 ≤ r ≤ 1 gives, per channel, in the notation of ``LayerStack.residual``,

        ρ ≥ φ(f − i) / (i(1 − φ) + fφ)         where the stack is too bright,
        ρ ≥ φ(i − f) / (1 − i(1 − φ) − fφ)     where it is too dark,

    and the alphas ask ρ ≥ (ι − φ)/(1 − φ). Half a step of the target's colour is left as slack, so that differences
    which rounding removes cost nothing; so is a whole step of alpha where there is anything, so that a background
    that is opaque but for rounding does not turn the residual into a copy of the image.

    Args:
        target: ``(H, W, 4)`` straight alpha.
        stack: The same shape.

    Returns:
        ``(H, W)``.
    """
    slack = 0.5 / 255
    colour, phi = stack[..., :3], stack[..., 3:]
    phi_steps, target_steps = np.rint(255 * phi), np.rint(255 * target[..., 3:])
    too_transparent = (target_steps - phi_steps > 1) | (phi_steps == 0)
    darker, brighter = np.minimum(target[..., :3] + slack, 1), np.maximum(target[..., :3] - slack, 0)
    bounds = (
        _ratio(phi * (colour - darker), darker * (1 - phi) + colour * phi),
        _ratio(phi * (brighter - colour), 1 - brighter * (1 - phi) - colour * phi),
        _ratio(np.where(too_transparent, target[..., 3:] - phi, 0), 1 - phi),
    )
    smallest = np.maximum.reduce([bound.max(axis=-1) for bound in bounds])
    steps: np.ndarray = np.ceil(np.minimum(smallest, 1) * 255 - 1e-3)  # 1e-3: an exact step must stay that step
    return steps / 255


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient where the numerator is positive (its denominator then is too), else 0: nothing is asked."""
    quotient = np.zeros_like(numerator)
    np.divide(numerator, denominator, out=quotient, where=(numerator > 0) & (denominator > 0))
    return quotient
