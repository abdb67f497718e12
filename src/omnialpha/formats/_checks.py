"""Checks on layered files that several formats share: how large they may be, whether their numbers make sense."""

from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from omnialpha.errors import ImageError
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.rgba import MAX_PIXELS

MAX_STACK_PIXELS = 16 * MAX_PIXELS
"""Most pixels of all layers together: one gigapixel, 4 GiB in memory. A guard against crafted files."""

MAX_LAYERS = 1000
"""Most layers that are read; a crafted file could list millions of one pixel each."""


def collect(layers: Iterable[Layer], name: str) -> list[Layer]:
    """List layers while they are decoded, and stop when they grow too large.

    Args:
        layers: A generator that decodes one layer at a time.
        name: The file, for the message.

    Raises:
        ImageError: They are more than ``MAX_LAYERS``, or together have more than ``MAX_STACK_PIXELS`` pixels.
    """
    result: list[Layer] = []
    pixels = 0
    for layer in layers:
        if len(result) == MAX_LAYERS:
            raise ImageError(f"{name}: has more than the {MAX_LAYERS} layers that are read; merge some first")
        result.append(layer)
        # Sixteen bytes of floats beside the four of 8 bits count as four pixels more.
        pixels += layer.image.width * layer.image.height * (1 if layer.deep is None else 5)
        if pixels > MAX_STACK_PIXELS:
            raise ImageError(
                f"{name}: its layers have more than the {MAX_STACK_PIXELS / 1e6:.0f} million pixels that are read; "
                "crop or merge some first"
            )
    return result


def at_least_one(stack: LayerStack) -> LayerStack:
    """The stack itself, or a transparent layer in the place of none, for formats that need a picture."""
    return stack if len(stack) else LayerStack([Layer(Image.new("RGBA", stack.size))], stack.size, stack.metadata)


def whole_number(value: Any, what: str, name: str) -> int:
    """A whole number, from what a file says: a JSON number or a text.

    Raises:
        ImageError: ``value`` is something else.
    """
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass  # told below, together with fractions
    raise ImageError(f"{name}: its {what} is {value!r}, not a whole number; write the file again")


def pair(value: Any, what: str, name: str) -> tuple[int, int]:
    """Two whole numbers, from a JSON list.

    Raises:
        ImageError: ``value`` is something else.
    """
    if not isinstance(value, list) or len(value) != 2:
        raise ImageError(f"{name}: its {what} is {value!r}, not two numbers; write the file again")
    return whole_number(value[0], what, name), whole_number(value[1], what, name)


def opacity(value: Any, name: str) -> float:
    """An opacity in [0, 1], from what a file says.

    Raises:
        ImageError: ``value`` is something else.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 1:
        raise ImageError(f"{name}: the opacity of a layer is {value!r}, not a number in [0, 1]; write the file again")
    return number


def mapping(value: Any, what: str, name: str) -> Mapping[str, Any]:
    """A JSON object, from what a file says.

    Raises:
        ImageError: ``value`` is something else.
    """
    if not isinstance(value, dict):
        raise ImageError(f"{name}: its {what} is {type(value).__name__}, not an object; write the file again")
    return value
