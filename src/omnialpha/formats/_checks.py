"""Checks on layered files that several formats share: how large they may be, whether their numbers make sense."""

from collections.abc import Iterable, Mapping
from typing import Any

from omnialpha.errors import ImageError
from omnialpha.imaging.layers import Layer
from omnialpha.imaging.rgba import MAX_PIXELS

MAX_STACK_PIXELS = 16 * MAX_PIXELS
"""Most pixels of all layers together: one gigapixel, 4 GiB in memory. A guard against crafted files."""


def collect(layers: Iterable[Layer], name: str) -> list[Layer]:
    """List layers while they are decoded, and stop when they grow too large.

    Args:
        layers: A generator that decodes one layer at a time.
        name: The file, for the message.

    Raises:
        ImageError: Together they have more than ``MAX_STACK_PIXELS`` pixels.
    """
    result, pixels = [], 0
    for layer in layers:
        result.append(layer)
        pixels += layer.image.width * layer.image.height
        if pixels > MAX_STACK_PIXELS:
            raise ImageError(
                f"{name}: its layers have more than the {MAX_STACK_PIXELS / 1e6:.0f} million pixels that are read; "
                "crop or merge some first"
            )
    return result


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
