"""The options that every generating command shares, in one place.

A command declares one parameter `settings: Settings` and is decorated with `with_settings`; the decorator replaces
that parameter by the options below, so that all commands offer the same ones.
"""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from omnialpha.errors import InputError, nearest

FORMATS = ("png", "psd", "ora")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the common options say.

    Attributes are the options; `height` and `width` are read from `size`.

    Raises:
        InputError: A value is not one of those allowed.
    """

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File (.png, .psd, .ora), folder, or template with {stem}, {task}, {seed}. "
            "Default: {stem}_{task} in the current folder.",
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="png, psd or ora. Default: png for one layer, psd for several (as png: a folder of pictures).",
        ),
    ] = None
    model: Annotated[str, typer.Option("--model", help='"nano" (embedded), "omnialpha", a folder or a hub id.')] = (
        "nano"
    )
    adapter: Annotated[str | None, typer.Option("--adapter", help="Folder or hub id of an adapter for the model.")] = (
        None
    )
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Same seed, same bytes.")] = 0
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps. Default: the model's.")] = None
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0.0, help="True CFG scale; 1 turns it off. Default: the model's.")
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Size of the result in pixels: 256 or 384x256 (width x height). Default: the input's."
        ),
    ] = None
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, … Default: a GPU if any.")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False

    def __post_init__(self) -> None:
        for option, value, allowed in (("--format", self.format, FORMATS), ("--dtype", self.dtype, DTYPES)):
            if value is not None and value not in allowed:
                raise InputError(f'{option} "{value}" is unknown; use {", ".join(allowed)}{nearest(value, allowed)}')
        if self.size is not None and not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5})?", self.size):
            raise InputError(f'--size "{self.size}" is not a size; write 256, or 384x256 for width x height')

    @property
    def width(self) -> int | None:
        """Width of the results in pixels, where `size` says it."""
        return None if self.size is None else int(self.size.split("x")[0])

    @property
    def height(self) -> int | None:
        """Height of the results in pixels, where `size` says it."""
        return None if self.size is None else int(self.size.split("x")[-1])


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options instead of its `settings` parameter.

    Args:
        command: Function with annotated parameters, one of them `settings`.

    Returns:
        A function whose signature Typer reads: the command's own options, then the common ones.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[name]) for name, p in inspect.signature(command).parameters.items()]
    common_hints = get_type_hints(Settings, include_extras=True)
    common = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=common_hints[f.name])
        for f in fields(Settings)
    ]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        settings = Settings(**{f.name: values.pop(f.name) for f in fields(Settings)})
        command(**values, settings=settings)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own if p.name != "settings"] + common
    # Typer asks for both: the signature's order and defaults, the annotations' types.
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    del wrapper.__wrapped__  # else the annotations are read from the command itself
    return wrapper
