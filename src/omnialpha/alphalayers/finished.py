"""A finished build for those who publish or show it: one sample at a time, with its masks and the stages' records."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnialpha.alphalayers.advance import Dropped
from omnialpha.alphalayers.store import Store
from omnialpha.data.manifest import Sample, iterate_manifest
from omnialpha.errors import InputError

MASKS = ("alpha", "precise_mask", "trimap", "rough_mask")
"""The masks of a foreground by their names as inputs of the tasks."""

_MASK_FILES = {name: f"{name.removesuffix('_mask')}.png" for name in MASKS}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A sample of the data set.

    Attributes:
        sample: Its line of the manifest: one foreground, background, composite, captions, score, source.
        masks: File of each of `MASKS`.
        instruction: What the editor was told, or what one that brings its own scenes says it did; "" where nothing
            is recorded.
        foreground_error: Eq. 9; None where nothing is recorded.
        recomposite_error: Eq. 11; the same.
    """

    sample: Sample
    masks: Mapping[str, Path]
    instruction: str = ""
    foreground_error: float | None = None
    recomposite_error: float | None = None

    @property
    def pictures(self) -> dict[str, Path]:
        """All its files by name: foreground, background, composite, and the masks."""
        assert self.sample.background is not None
        assert self.sample.composite is not None
        layers = {"background": self.sample.background, "composite": self.sample.composite}
        return {"foreground": self.sample.foregrounds[0], **layers, **self.masks}

    @property
    def texts(self) -> dict[str, str]:
        """All its texts by name."""
        return {
            "foreground_caption": self.sample.captions[0],
            "background_caption": self.sample.background_caption,
            "composite_caption": self.sample.composite_caption,
            "instruction": self.instruction,
            "source": self.sample.source,
            "licence": self.sample.licence,
            "identity": self.sample.identity,
        }

    @property
    def numbers(self) -> dict[str, float | None]:
        """Its score and both of its parts by name."""
        return {
            "score": self.sample.score,
            "foreground_error": self.foreground_error,
            "recomposite_error": self.recomposite_error,
        }


def read_finished(out: Path) -> Iterator[Finished]:
    """Read a build's data set in the order of its manifest.

    Args:
        out: Folder of the build, with `manifest.jsonl` and `masks/`.

    Yields:
        One sample at a time; pictures are not opened.

    Raises:
        InputError: There is no manifest, or a sample is no triplet with its masks.
    """
    store = Store(out / "store")
    for sample in iterate_manifest(out / "manifest.jsonl"):
        if len(sample.foregrounds) != 1 or sample.background is None or sample.composite is None:
            raise InputError(
                f"{out}: sample {sample.id!r} is no triplet of one foreground, a background and a composite; "
                "give a folder that `omnialpha data build` made"
            )
        masks = {name: out / "masks" / sample.id / file for name, file in _MASK_FILES.items()}
        missing = [str(file) for file in (*sample.files, *masks.values()) if not file.is_file()]
        if missing:
            raise InputError(f"{missing[0]}: no such file; run `omnialpha data build` again, it makes what is missing")
        told = {**_values(store, sample, "instruct"), **_values(store, sample, "edit")}
        scored = _values(store, sample, "score")
        yield Finished(
            sample=sample,
            masks=masks,
            instruction=told.get("instruction", ""),
            foreground_error=scored.get("foreground_error"),
            recomposite_error=scored.get("recomposite_error"),
        )


def read_dropped(out: Path) -> Iterator[Dropped]:
    """Read what did not get into the data set, with the reason.

    Args:
        out: Folder of the build; none is dropped where it has no `dropped.jsonl`.
    """
    file = out / "dropped.jsonl"
    if file.is_file():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                yield Dropped(**json.loads(line))


def _values(store: Store, sample: Sample, stage: str) -> Mapping[str, Any]:
    """What a stage recorded of a sample; nothing for a manifest that no build made."""
    if stage not in sample.stages:
        return {}
    values: Mapping[str, Any] = store.read(stage, sample.stages[stage])["result"]["values"]
    return values
