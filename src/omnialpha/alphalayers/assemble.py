"""Stages 11 and 12: the chosen triplets become a data set of files with plain names, and a manifest that lists them."""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from omnialpha.alphalayers.masking import MASKS
from omnialpha.alphalayers.score import split
from omnialpha.alphalayers.store import Store
from omnialpha.alphalayers.triplet import Triplet
from omnialpha.data.manifest import Sample, iterate_manifest, write_manifest
from omnialpha.imaging.files import link

TEST_SHARE = 10
"""One in so many is held out when no number is given, as 100 of the paper's 1,000."""


def assemble(out: Path, samples: Callable[[], Iterable[Triplet]], test: int | None) -> list[str]:
    """Split the samples and give them their place in the data set.

    Pictures are linked from the store where the file system can do that, so they take no more space. Whoever reads the
    folder meanwhile sees the old manifest with all its files, or the new one with all its own.

    Args:
        out: Folder of the build.
        samples: Gives all of them, with scores and masks, each time it is called.
        test: How many are held out; None for a tenth.

    Returns:
        The side, "train" or "test", of each sample.

    Raises:
        InputError: There are fewer samples than are to be held out.
        OutputError: A file cannot be written.
    """
    store = Store(out / "store")
    identities = {sample.id: sample.identity for sample in samples()}
    sides = _sides(identities, test)
    write_manifest((_placed(sample, out, store, sides[sample.id]) for sample in samples()), out / "manifest.jsonl")
    for folder in ("pictures", "masks"):
        for entry in (out / folder).glob("*"):
            if entry.name not in identities:
                shutil.rmtree(entry)
    return list(sides.values())


def split_manifest(manifest: Path, out: Path, test: int | None) -> list[str]:
    """Split the samples of a manifest anew.

    Samples show the same object when they have the same identity or, where none is stated, the same foreground.

    Args:
        manifest: To read.
        out: To write; may be the same file.
        test: How many are held out; None for a tenth.

    Returns:
        The side, "train" or "test", of each sample.

    Raises:
        InputError: The manifest is wrong, or holds fewer samples than are to be held out.
        OutputError: It cannot be written.
    """
    identities = {sample.id: sample.identity or _content(sample.foregrounds) for sample in iterate_manifest(manifest)}
    sides = _sides(identities, test)
    write_manifest((replace(sample, split=sides[sample.id]) for sample in iterate_manifest(manifest)), out)
    return list(sides.values())


def _sides(identities: dict[str, str], test: int | None) -> dict[str, str]:
    return split(identities, round(len(identities) / TEST_SHARE) if test is None else test)


def _content(files: tuple[Path, ...]) -> str:
    """Hash of files."""
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _placed(sample: Triplet, out: Path, store: Store, side: str) -> Sample:
    """Link a sample's files into the data set; its line of the manifest."""
    assert sample.composite is not None
    assert sample.background is not None
    files = {"foreground": sample.foreground, "composite": sample.composite, "background": sample.background}
    places = {name: out / "pictures" / sample.id / f"{name}.png" for name in files}
    for name, place in places.items():
        link(files[name], place)
    for name in MASKS:
        link(store.picture("masks", sample.stages["masks"], name), out / "masks" / sample.id / f"{name}.png")
    return Sample(
        id=sample.id,
        foregrounds=(places["foreground"],),
        background=places["background"],
        composite=places["composite"],
        captions=(sample.foreground_caption,),
        background_caption=sample.background_caption,
        composite_caption=sample.composite_caption,
        split=side,
        source=sample.source,
        licence=sample.licence,
        score=sample.score,
        identity=sample.identity,
        stages=sample.stages,
    )
