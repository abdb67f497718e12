"""Data sets made of parallel folders in which equal file names belong together, one line of a table each."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from omnialpha.data.naming import slug
from omnialpha.data.sources.listing import misfit, pictures, some
from omnialpha.data.sources.reading import read_mask, same_size, stream
from omnialpha.data.sources.record import Record
from omnialpha.errors import InputError
from omnialpha.imaging.rgba import read_array

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where one split of a data set keeps its pictures.

    Attributes:
        name: The split.
        bases: Folders under the root that releases put it in; the first that fits counts. A "*" stands for every
            folder there is, whose name then becomes part of the ids.
        folders: Field of `Record` to folder. The first one decides which entries there are; each needs all the others.
        optional: The same for pictures that may be missing.
    """

    name: str
    bases: tuple[str, ...] = ("",)
    folders: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)


_FG_ALPHA = {"foreground": "fg", "alpha": "alpha"}
_RORD = {"composite": "img", "background": "gt", "mask": "mask"}

LAYOUTS: Mapping[str, tuple[Split, ...]] = {
    "aim500": (Split(name="test", folders={"composite": "original", "alpha": "mask"}, optional={"trimap": "trimap"}),),
    # Test_set/*/trimaps is left out: it has twenty trimaps per foreground, for composites that Adobe may not ship.
    "adobe": (
        Split(name="train", bases=("Training_set/*",), folders=_FG_ALPHA),
        Split(name="test", bases=("Test_set/*",), folders=_FG_ALPHA),
    ),
    "am2k": (
        Split(
            name="train",
            bases=("train",),
            folders={"composite": "original", "alpha": "mask"},
            optional={"foreground": "fg", "background": "bg"},
        ),
        Split(
            name="validation",
            bases=("validation",),
            folders={"composite": "original", "alpha": "mask"},
            optional={"trimap": "trimap"},
        ),
    ),
    "distinctions646": tuple(
        Split(name=folder.lower(), bases=(folder,), folders={"foreground": "FG", "alpha": "GT"})
        for folder in ("Train", "Test")
    ),
    "p3m500np": (
        Split(
            name="validation",
            bases=("", "validation", "P3M-500-NP", "validation/P3M-500-NP"),
            folders={"composite": "original_image", "alpha": "mask"},
            optional={"trimap": "trimap"},
        ),
    ),
    "rord": tuple(Split(name=name, bases=(name,), folders=_RORD) for name in ("train", "val", "test")),
    "rwp636": (Split(name="test", folders={"composite": "image", "alpha": "alpha"}),),
    "simd": (
        Split(
            name="test",
            bases=("generated_testset/*", "*"),
            folders={"composite": "merged", "alpha": "alpha"},
            optional={"trimap": "trimap"},
        ),
    ),
    "transparent460": tuple(
        Split(name=folder.lower(), bases=(folder,), folders=_FG_ALPHA, optional={"trimap": "trimap"})
        for folder in ("Train", "Test")
    ),
}
"""The data sets that are folders with matching names."""


def matched(source: str, root: Path) -> list[Record]:
    """Read a data set of `LAYOUTS`; the splits that are there.

    Args:
        source: Key of `LAYOUTS`.
        root: Its folder.

    Raises:
        InputError: No split fits, or pictures that belong to others are missing.
    """
    records = [record for split in LAYOUTS[source] for record in _read_split(source, root, split)]
    if not records:
        raise misfit(root, source, " or ".join(described(split) for split in LAYOUTS[source]))
    return records


def described(split: Split) -> str:
    """The folders of a split, for people."""
    base = split.bases[0]
    inside = ", ".join(split.folders.values())
    return f"{base}/{{{inside}}}" if base else " and ".join(f"{name}/" for name in split.folders.values())


def rord(root: Path) -> list[Record]:
    """RORD, whose masks are white on the object in one release and black in another.

    The object is where the two photographs differ: a few triples, spread over the data set, decide for all of it.

    Args:
        root: Folder with train/, val/ or test/.

    Raises:
        InputError: The tree does not fit.
        ImageError: The pictures of a triple cannot be read or differ in size.
    """
    records = matched("rord", root)
    probes = records[:: max(1, len(records) // _PROBES)][:_PROBES]
    evidence = np.array([_white_is_object(record) for record in probes])
    inverted = bool(np.median(evidence) < 0)  # one odd triple must not outweigh the others
    against = int((evidence * (-1 if inverted else 1) <= 0).sum())
    level = logging.WARNING if against else logging.INFO
    logger.log(
        level,
        "%s: the object is %s in RORD's masks (so in %d of %d looked at)",
        root,
        "black" if inverted else "white",
        len(probes) - against,
        len(probes),
    )
    return [replace(record, mask_inverted=inverted) for record in records]


_PROBES = 9


def _white_is_object(record: Record) -> float:
    """How much more the photographs differ where the mask is white than where it is black; negative when less."""
    assert record.composite is not None
    assert record.background is not None
    assert record.mask is not None
    with_object, without = (read_array(stream(picture)) for picture in (record.composite, record.background))
    white = read_mask(record)
    same_size((record.composite, with_object), (record.background, without), (record.mask, white))
    if white.all() or not white.any():
        return 0.0
    difference = np.abs(with_object - without).mean(axis=-1)
    return float(difference[white].mean() - difference[~white].mean())


_ALIASES = {
    "composite": ("image", "images", "original", "merged"),
    "foreground": ("foreground", "foregrounds", "fg"),
    "alpha": ("alpha", "alphas", "mask", "masks", "matte"),
    "trimap": ("trimap", "trimaps"),
}
"""Folder names that the generic reader understands."""


def folder(source: str, root: Path) -> list[Record]:
    """Any folder of RGBA pictures, or of images beside alphas with the same names.

    A text file with the name of a cut-out holds its caption.

    Args:
        source: Name for the records.
        root: Pictures; or the folders image/ or foreground/, and alpha/, and if there are any trimap/ (or a usual
            variant of these names); or several folders of either kind, which are then the splits.

    Raises:
        InputError: It is none of these.
    """
    records = list(_generic(source, root, "all"))
    if not records and root.is_dir():
        for place in sorted(path for path in root.iterdir() if path.is_dir()):
            records += _generic(source, place, place.name)
    if not records:
        raise misfit(root, source, "RGBA pictures, or image/ (or foreground/) and alpha/ with the same file names")
    return records


def _generic(source: str, place: Path, split: str) -> Iterator[Record]:
    """Records of one folder of either kind; none when it is neither."""
    if not place.is_dir():
        return
    # Reversed, so that the first name of a row wins where a folder has several.
    folders = {role: name for role, names in _ALIASES.items() for name in reversed(names) if (place / name).is_dir()}
    colours = [role for role in ("composite", "foreground") if role in folders]
    if colours and "alpha" in folders:
        needed = {role: folders[role] for role in (*colours, "alpha")}
        extra = {"trimap": folders["trimap"]} if "trimap" in folders else {}
        for record in _read_split(source, place, Split(name=split, folders=needed, optional=extra)):
            lead = record.composite or record.foreground
            assert isinstance(lead, Path)
            yield replace(record, captions=_caption(lead))
        return
    if folders:
        wanted = "alpha/ beside them" if colours else "image/ or foreground/ beside them"
        raise misfit(place, source, wanted)
    for stem, path in pictures(place).items():
        yield Record(id=stem, source=source, split=split, foreground=path, captions=_caption(path))


def _caption(path: Path) -> tuple[str, ...]:
    text = path.with_suffix(".txt")
    return (text.read_text(encoding="utf-8").strip(),) if text.is_file() else ()


def _read_split(source: str, root: Path, split: Split) -> Iterator[Record]:
    for place, prefix in _places(root, split):
        missing = [name for name in split.folders.values() if not (place / name).is_dir()]
        if missing:
            raise misfit(place, source, " and ".join(f"{name}/" for name in split.folders.values()))
        needed = {role: pictures(place / name) for role, name in split.folders.items()}
        extra = {role: pictures(place / name) for role, name in split.optional.items() if (place / name).is_dir()}
        lead, *others = needed
        leads = (split.folders[lead], needed[lead])
        if not needed[lead]:
            raise misfit(place / split.folders[lead], source, "pictures")
        for role in others:
            if gap := _compare(place, leads, (split.folders[role], needed[role])):
                raise InputError(f"{gap}; complete the download, or take them out of {split.folders[lead]}/")
        for role, found in extra.items():
            if gap := _compare(place, leads, (split.optional[role], found)):
                logger.warning("%s", gap)
        for stem in needed[lead]:
            found_pictures: dict[str, Any] = {role: found[stem] for role, found in needed.items()}
            found_pictures |= {role: found.get(stem) for role, found in extra.items()}
            yield Record(id=prefix + stem, source=source, split=split.name, **found_pictures)


def _places(root: Path, split: Split) -> list[tuple[Path, str]]:
    """Folders that hold at least one of a split's folders, each with a prefix for its ids."""
    for base in split.bases:
        candidates = sorted(path for path in root.glob(base) if path.is_dir()) if base else [root]
        places = [place for place in candidates if any((place / name).is_dir() for name in split.folders.values())]
        if places:
            return [(place, f"{slug(place.name)}-" if "*" in base else "") for place in places]
    return []


def _compare(place: Path, leads: tuple[str, Mapping[str, Path]], others: tuple[str, Mapping[str, Path]]) -> str:
    """Compare the names in two folders: log what is too much, return a sentence about what is missing."""
    lead, wanted = leads
    other, found = others
    surplus = [stem for stem in found if stem not in wanted]
    if surplus:
        logger.warning(
            "%s: %d pictures in %s/ belong to none in %s/ (%s)", place, len(surplus), other, lead, some(surplus)
        )
    missing = [stem for stem in wanted if stem not in found]
    if not missing:
        return ""
    return f"{place}: {len(missing)} of {len(wanted)} pictures in {lead}/ have none in {other}/ ({some(missing)})"
