"""What a build is asked to do: everything that its result depends on, and nothing else."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnialpha.alphalayers import backends
from omnialpha.alphalayers.quality import Limits
from omnialpha.errors import InputError
from omnialpha.imaging.files import atomic_write

FILE = "build.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A build. Its backends are lines of text (see `backends`), so that any process can make them.

    Attributes:
        source: Folder of the data set.
        source_name: Key of `data.sources.SOURCES`; None recognises a prepared corpus, else takes any folder.
        captioner: Stages 3, 4, 5 and 8.
        editor: Stage 6.
        remover: Stage 7.
        aesthetic: Scores cut-outs for the quality filter; None when no limit asks for that.
        limits: Of the quality filter.
        keep: How many triplets, those with the lowest scores.
        test: How many of them are held out; None for a tenth.
        size: Longest side in pixels; larger cut-outs are scaled down.
        seed: Of everything that is drawn.
        limit: Only the first so many entries of the data set.

    Raises:
        InputError: A number is impossible, or the backends do not go together.
    """

    source: Path
    source_name: str | None = None
    captioner: str = "offline"
    editor: str = "offline:procedural"
    remover: str = "offline"
    aesthetic: str | None = None
    limits: Limits = field(default_factory=Limits)
    keep: int = 1000
    test: int | None = None
    size: int = 1024
    seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.keep < 1 or self.size < 1 or (self.limit is not None and self.limit < 1):
            raise InputError("keep, size and limit are at least 1; correct them")
        if self.test is not None and not 0 <= self.test <= self.keep:
            raise InputError(f"{self.test} of at most {self.keep} triplets cannot be held out; lower --test")
        if self.remover == "offline" and not self.editor.startswith("offline"):
            raise InputError(
                f'the remover "offline" knows only what the offline editor pasted over, not what "{self.editor}" '
                "makes; take another, such as opencv:telea"
            )

        if self.limits.aesthetic and self.aesthetic is None:
            raise InputError(
                "the limits ask for aesthetic scores; name CLIP and the head with --aesthetic laion:CLIP#HEAD"
            )

    def backend(self, role: str, out: Path) -> Any:
        """Make the backend of a role; its model is loaded when it is first asked.

        Args:
            role: Of a stage: "captioner", "editor", "remover", "aesthetic", or "" for none.
            out: Folder of the build, which keeps an endpoint's replies.

        Raises:
            InputError: Its line cannot be understood.
            CheckpointError: Weights are missing.
            MissingExtraError: A package is missing.
        """
        if role == "captioner":
            return backends.captioner(self.captioner, replies=out / "store" / "replies")
        if role == "editor":
            return backends.editor(self.editor)
        if role == "remover":
            return backends.remover(self.remover)
        return backends.aesthetic(self.aesthetic) if role == "aesthetic" and self.aesthetic is not None else None

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return dataclasses.asdict(self) | {"source": str(self.source)}


ROLES = ("captioner", "editor", "remover", "aesthetic")


@dataclass(frozen=True)
class Noted:
    """What is known of a backend without making it: enough to look its answers up."""

    name: str
    settings: Mapping[str, Any]


def write_plan(plan: Plan, out: Path, entries: int) -> None:
    """Note in `OUT/build.json` what is being built.

    Args:
        plan: Of the build.
        out: Its folder.
        entries: Of the data set.

    Raises:
        InputError: A backend's line cannot be understood.
        OutputError: The file cannot be written.
    """
    made = {role: plan.backend(role, out) for role in ROLES}
    noted = {
        role: {"name": backend.name, "settings": backend.settings}
        for role, backend in made.items()
        if backend is not None
    }
    record = {"plan": plan.to_json(), "entries": entries, "backends": noted}
    with atomic_write(out / FILE, overwrite=True) as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False), encoding="utf-8")


def read_plan(out: Path) -> tuple[dict[str, Any], dict[str, Noted]]:
    """Read `OUT/build.json`.

    Args:
        out: Folder of a build.

    Returns:
        The whole record, and its backends by role.

    Raises:
        InputError: There is none.
    """
    file = out / FILE
    if not file.is_file():
        raise InputError(f"{out}: has no {FILE}, so nothing was built there; give the OUT of `omnialpha data build`")
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record, {role: Noted(**noted) for role, noted in record["backends"].items()}
