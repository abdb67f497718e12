"""What does the work of the stages: a captioner, an editor, a remover, each behind one protocol and one line of text.

A backend is written ``KIND:TARGET?OPTION=VALUE&OPTION=VALUE``; whoever holds that line can make it, in any process:

    captioner   offline                                 captions that come with the cut-outs, templates
                endpoint:http://host:8000/v1#MODEL      any OpenAI-compatible service (vLLM, Ollama, OpenAI)
                transformers:MODEL                      Qwen3-VL in this process
    editor      offline:BACKDROPS                       pastes the cut-out into a photograph of that folder
                offline:procedural                      or into a drawn landscape
                diffusers:MODEL                         Qwen-Image-Edit-2509 and its kin
                omnialpha:nano                          this library's own foreground_to_composite
    remover     offline                                 the true background, which the offline editor knows
                opencv:telea, opencv:navier_stokes      inpainting without a model
                diffusers:MODEL                         an inpainting pipeline, as ObjectClear's
                omnialpha:nano                          this library's own removal_precise_mask
    aesthetic   laion:CLIP#HEAD                         LAION-AES, for the quality filter

A MODEL is a folder or a hub id. The options of a kind are the keyword arguments of its class.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from omnialpha.errors import InputError, nearest

if TYPE_CHECKING:
    from PIL import Image

    from omnialpha.alphalayers.aesthetic import LaionAesthetic
    from omnialpha.alphalayers.triplet import Triplet

Backend = TypeVar("Backend")


class Captioner(Protocol):
    """Writes the texts of a sample. The methods may be called from several threads at once.

    Attributes:
        name: The line of text that makes it.
        settings: Everything that its answers depend on besides the sample, in JSON types; part of each result's key.
        workers: How many calls at once are worth while.

    Each method raises RejectedError when this sample cannot be used, and EndpointError and the like when none can.
    """

    name: str
    settings: dict[str, Any]
    workers: int

    def caption_foreground(self, sample: "Triplet") -> str:
        """T_fg: what the foreground shows."""

    def imagine(self, sample: "Triplet") -> str:
        """T_comp, from foreground and T_fg: the whole picture that is to be made of it."""

    def replace_instruction(self, sample: "Triplet") -> str:
        """T_rep, from foreground and T_comp: what the editor is told."""

    def caption_background(self, sample: "Triplet") -> str:
        """T_bg: what the background shows."""


@dataclass(frozen=True, kw_only=True)
class Edited:
    """What an editor made of a foreground; pictures of one size.

    Attributes:
        composite: I_comp, "RGB".
        foreground: The foreground as it lies in the composite, "RGBA": moved, on another canvas, and lit as the scene
            is, by an editor that pastes; unchanged after a model.
        background: The scene without it, "RGB", where the editor knows it.
        background_caption: What that scene shows, where the editor knows it; the stage then makes T_comp and T_rep of
            it, in place of what the captioner had imagined, and gives it to the offline captioner.
    """

    composite: "Image.Image"
    foreground: "Image.Image"
    background: "Image.Image | None" = None
    background_caption: str = ""


class Editor(Protocol):
    """Makes the composite; attributes, threads and errors as for `Captioner`."""

    name: str
    settings: dict[str, Any]
    workers: int

    def edit(self, sample: "Triplet") -> Edited:
        """Put the foreground into the scene that the instruction describes."""


class Remover(Protocol):
    """Makes the background; attributes, threads and errors as for `Captioner`."""

    name: str
    settings: dict[str, Any]
    workers: int

    def remove(self, sample: "Triplet") -> "Image.Image":
        """I_bg, "RGB", of the composite's size: the composite without what is under the foreground's binary mask."""


def captioner(line: str, *, replies: str | Path) -> Captioner:
    """Make a captioner from its line of text.

    Args:
        line: As listed at the top of this module.
        replies: Folder in which an endpoint's replies are kept, so that none is paid for twice.

    Raises:
        InputError: The line cannot be understood.
        CheckpointError: Weights are missing.
        MissingExtraError: A package is missing.
    """
    kind, target, options = _parse(line, ("offline", "endpoint", "transformers"))
    if kind == "offline":
        from omnialpha.alphalayers.offline import OfflineCaptioner

        return _make(OfflineCaptioner, line, target, options, wants=None)
    from omnialpha.alphalayers.asking import AskingCaptioner

    if kind == "endpoint":
        from omnialpha.alphalayers.chats import EndpointChat

        given = options | {"replies": str(replies)}
        return AskingCaptioner(_make(EndpointChat, line, target, given, wants="http://host:8000/v1#MODEL"))
    from omnialpha.alphalayers.chats import TransformersChat

    return AskingCaptioner(_make(TransformersChat, line, target, options, wants="MODEL"))


def editor(line: str) -> Editor:
    """Make an editor from its line of text; arguments and errors as for `captioner`."""
    kind, target, options = _parse(line, ("offline", "diffusers", "omnialpha"))
    if kind == "offline":
        from omnialpha.alphalayers.offline import OfflineEditor

        return _make(OfflineEditor, line, target, options, wants="BACKDROPS")
    if kind == "diffusers":
        from omnialpha.alphalayers.diffusers_models import DiffusersEditor

        return _make(DiffusersEditor, line, target, options, wants="MODEL")
    from omnialpha.alphalayers.omnialpha_models import OmniAlphaEditor

    return _make(OmniAlphaEditor, line, target, options, wants="MODEL")


def remover(line: str) -> Remover:
    """Make a remover from its line of text; arguments and errors as for `captioner`."""
    kind, target, options = _parse(line, ("offline", "opencv", "diffusers", "omnialpha"))
    if kind == "offline":
        from omnialpha.alphalayers.offline import OfflineRemover

        return _make(OfflineRemover, line, target, options, wants=None)
    if kind == "opencv":
        from omnialpha.alphalayers.opencv_models import OpenCVRemover

        return _make(OpenCVRemover, line, target, options, wants="telea")
    if kind == "diffusers":
        from omnialpha.alphalayers.diffusers_models import DiffusersRemover

        return _make(DiffusersRemover, line, target, options, wants="MODEL")
    from omnialpha.alphalayers.omnialpha_models import OmniAlphaRemover

    return _make(OmniAlphaRemover, line, target, options, wants="MODEL")


def aesthetic(line: str) -> "LaionAesthetic":
    """Make the scorer of the quality filter from its line of text; arguments and errors as for `captioner`."""
    from omnialpha.alphalayers.aesthetic import LaionAesthetic

    _, target, options = _parse(line, ("laion",))
    return _make(LaionAesthetic, line, target, options, wants="CLIP#HEAD")


def _parse(line: str, kinds: tuple[str, ...]) -> tuple[str, str, dict[str, str]]:
    """Kind, target and options of a line."""
    head, _, query = line.partition("?")
    kind, _, target = head.partition(":")
    if kind not in kinds:
        known = f"; known: {', '.join(kinds)}"
        raise InputError(f'unknown backend "{line}"{nearest(kind, kinds) or known}')
    return kind, target, dict(parse_qsl(query, keep_blank_values=True))


def _make(
    make: Callable[..., Backend], line: str, target: str, options: Mapping[str, str], *, wants: str | None
) -> Backend:
    """Call a backend's class with what the line says; ``wants`` is an example of its target, None for no target."""
    kind = line.partition(":")[0].partition("?")[0]
    if (wants is None) == bool(target):
        raise InputError(f'"{line}": expected {kind if wants is None else f"{kind}:{wants}"}; write it so')
    function = make.__init__ if inspect.isclass(make) else make
    hints = get_type_hints(function)
    known = [p.name for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
    values = {}
    for name, text in options.items():
        if name not in known:
            listed = f"; {kind} has {', '.join(sorted(set(known) - {'replies'}))}" if known else f"; {kind} has none"
            raise InputError(f'"{line}": unknown option "{name}"{nearest(name, known) or listed}')
        values[name] = _value(line, name, text, hints[name])
    arguments = [line] if wants is None else [line, target]
    return make(*arguments, **values)


def _value(line: str, name: str, text: str, hint: Any) -> Any:
    """An option's value: text as it is, everything else as JSON, of the type that the argument declares."""
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = [get_origin(member) or member for member in members]
    if str in kinds:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if float in kinds and type(value) is int:
        return float(value)
    if value is None or type(value) not in kinds:  # exactly: bool is a kind of int
        wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
        raise InputError(f'"{line}": option "{name}" takes {wanted}, received "{text}"; correct it')
    return value
