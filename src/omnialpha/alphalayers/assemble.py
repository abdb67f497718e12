"""Stages 11 and 12: the chosen triplets become a data set of files with plain names, and a manifest that lists them."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from omnialpha.alphalayers.score import split
from omnialpha.alphalayers.store import Store
from omnialpha.alphalayers.triplet import Triplet
from omnialpha.data.manifest import Sample, write_manifest
from omnialpha.imaging.files import link

MASKS = ("alpha", "precise", "trimap", "rough")
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
    sides = split(identities, round(len(identities) / TEST_SHARE) if test is None else test)
    write_manifest((_placed(sample, out, store, sides[sample.id]) for sample in samples()), out / "manifest.jsonl")
    for folder in ("pictures", "masks"):
        for entry in (out / folder).glob("*"):
            if entry.name not in identities:
                shutil.rmtree(entry)
    return list(sides.values())


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
