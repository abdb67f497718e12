"""The list of layers on the page: a row for each layer, the front one first as in layer editors.

The page changes rows (order, name, visibility, opacity); a stack is arranged by them without touching its pictures.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omnialpha.errors import InputError
from omnialpha.imaging.layers import LayerStack

MAX_NAME = 80
"""Characters of a layer's name that are kept."""

Rows = list[dict[str, Any]]
"""JSON values: ``index`` of the layer in its stack, ``name``, ``visible``, ``opacity`` in whole percent."""


def rows_of(stack: LayerStack) -> Rows:
    """The rows that leave a stack as it is.

    Args:
        stack: Layers, back to front.

    Returns:
        A row for each layer, the front one first.
    """
    return [
        {"index": index, "name": layer.name, "visible": layer.visible, "opacity": round(100 * layer.opacity)}
        for index, layer in reversed(list(enumerate(stack)))
    ]


def arrange(stack: LayerStack, rows: Sequence[Any]) -> LayerStack:
    """Order, name, hide and fade layers as the rows say.

    Args:
        stack: The layers as they were made.
        rows: A row for each of them in any order, the front one first. They come from a browser and are not trusted.

    Returns:
        Another stack with the same pictures.

    Raises:
        InputError: The rows are not those of this stack.
    """
    try:
        indices = [int(row["index"]) for row in rows]
        if sorted(indices) != list(range(len(stack))):
            raise InputError(f"the rows name the layers {indices}, expected each of {len(stack)} once; reload the page")
        layers = [
            replace(
                stack[index],
                name=str(row["name"]).strip()[:MAX_NAME] or stack[index].name,
                visible=bool(row["visible"]),
                opacity=min(max(int(row["opacity"]), 0), 100) / 100,
            )
            for index, row in zip(indices, rows, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("the list of layers cannot be understood; reload the page") from error
    return LayerStack(reversed(layers), stack.size, stack.metadata)
