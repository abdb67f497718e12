"""The options that several commands share, each group in one record.

A command declares a parameter per record, as in ``def matte(..., guides: Guides, settings: Settings)``, and is
decorated with `with_options`; the decorator puts the options of the record in the parameter's place.
"""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from omnialpha.errors import InputError, nearest

FORMATS = ("png", "psd", "psb", "ora", "tiff", "exr", "svg", "pptx", "webp", "avif", "gif")
DTYPES = ("float32", "bfloat16", "float16")

Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help='How weights are held: "auto", or a plan of `omnialpha doctor --plan`. Default: as they are.',
    ),
]


def pixels(size: str) -> tuple[int, int]:
    """Width and height that ``--size`` says.

    Raises:
        InputError: It is not a size.

    >>> pixels("256"), pixels("384x256")
    ((256, 256), (384, 256))
    """
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5})?", size):
        raise InputError(f'--size "{size}" is not a size; write 256, or 384x256 for width x height')
    width, _, height = size.partition("x")
    return int(width), int(height or width)


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
            help="File (.png, .psd, .ora, .tiff, .exr, …), folder, or template with {stem}, {task}, {seed}. "
            "Default: {stem}_{task} in the current folder.",
        ),
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"{', '.join(FORMATS)}. Default: png for one layer, psd for several (as png: a folder of pictures).",
        ),
    ] = None
    model: Annotated[str, typer.Option("--model", help='"nano" (embedded), "omnialpha", a folder or a hub id.')] = (
        "nano"
    )
    adapter: Annotated[str | None, typer.Option("--adapter", help="Folder or hub id of an adapter for the model.")] = (
        None
    )
    few_step: Annotated[
        str | None,
        typer.Option("--few-step", help="Few-step LoRA (Lightning, …): a file or OWNER/NAME/FILE."),
    ] = None
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Same call and seed, same bytes.")] = 0
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Sampling steps. Default: the model's.")] = None
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0.0, help="True CFG scale; 1 turns it off. Default: the model's.")
    ] = None
    guidance_interval: Annotated[
        tuple[float, float],
        typer.Option("--guidance-interval", help="START STOP: fractions of the steps between which guidance acts."),
    ] = (0.0, 1.0)
    step_cache: Annotated[
        str | None,
        typer.Option(
            "--step-cache",
            help="Faster at many steps, slightly different: taylorseer, first_block or magcache, or NAME=threshold.",
        ),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Size of the result in pixels: 256 or 384x256 (width x height). Default: the input's."
        ),
    ] = None
    refine: Annotated[
        bool | None,
        typer.Option(
            "--refine/--no-refine",
            help="Sharpen results with the input, in its own pixels where they are known. "
            "Default: where the input is larger than the model works.",
        ),
    ] = None
    residual: Annotated[
        bool, typer.Option("--residual", help="Add a layer that makes a decomposition show the input exactly.")
    ] = False
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            help="Pictures of one size that share a call. Default: as many small ones as make up a large one.",
        ),
    ] = None
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, … Default: a GPU if any.")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None
    memory: Memory = None
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False

    def __post_init__(self) -> None:
        for option, value, allowed in (("--format", self.format, FORMATS), ("--dtype", self.dtype, DTYPES)):
            if value is not None and value not in allowed:
                raise InputError(f'{option} "{value}" is unknown; use {", ".join(allowed)}{nearest(value, allowed)}')
        if self.residual and self.refine is False:
            raise InputError("--residual is part of the refinement; leave --no-refine out")
        if self.size is not None:
            pixels(self.size)

    @property
    def width(self) -> int | None:
        """Width of the results in pixels, where `size` says it."""
        return None if self.size is None else pixels(self.size)[0]

    @property
    def height(self) -> int | None:
        """Height of the results in pixels, where `size` says it."""
        return None if self.size is None else pixels(self.size)[1]


@dataclass(frozen=True, kw_only=True)
class Guides:
    """What says where the object is; at most one is given. Attributes are the input slots of the tasks."""

    precise_mask: Annotated[
        Path | None, typer.Option("--mask", help="Mask of the object, white on black, exact to the pixel.")
    ] = None
    rough_mask: Annotated[Path | None, typer.Option("--rough-mask", help="Mask that covers the object generously.")] = (
        None
    )
    trimap: Annotated[
        Path | None, typer.Option("--trimap", help="White: object, black: background, grey: unknown.")
    ] = None
    alpha: Annotated[Path | None, typer.Option("--alpha", help="Alpha matte of the object, or a cut-out of it.")] = None


Stdout = Annotated[
    bool, typer.Option("--stdout", help="Write the result, a PNG or what --format says, to standard output.")
]


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """Standard input and output instead of files. Attributes are the options."""

    stdin: Annotated[bool, typer.Option("--stdin", help="Read the picture from standard input.")] = False
    stdout: Stdout = False


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Which model a process serves, and to whom. Attributes are the options."""

    model: Annotated[str, typer.Option("--model", help='"nano" (embedded), "omnialpha", a folder or a hub id.')] = (
        "nano"
    )
    adapter: Annotated[str | None, typer.Option("--adapter", help="Adapter for the model.")] = None
    few_step: Annotated[str | None, typer.Option("--few-step", help="Few-step LoRA: file or OWNER/NAME/FILE.")] = None
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, … Default: a GPU if any.")] = None
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = None
    memory: Memory = None
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 to be reached from other machines.")] = "127.0.0.1"


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its records instead of the parameters that hold them.

    Args:
        command: Function with annotated parameters, some of them records (dataclasses) of options.

    Returns:
        A function whose signature Typer reads: the command's own options, then those of each record.
    """
    hints = get_type_hints(command, include_extras=True)
    own: list[inspect.Parameter] = []
    shared: list[inspect.Parameter] = []
    records: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        record = hints[name]
        if not is_dataclass(record):
            own.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=record))
            continue
        records[name] = record
        types = get_type_hints(record, include_extras=True)
        shared += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
            for f in fields(record)
        ]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        filled = {
            name: record(**{f.name: values.pop(f.name) for f in fields(record)}) for name, record in records.items()
        }
        command(**values, **filled)

    # Typer asks for both: the signature's order and defaults, the annotations' types.
    wrapper.__signature__ = inspect.Signature(own + shared)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in own + shared}
    del wrapper.__wrapped__  # else the annotations are read from the command itself
    return wrapper
