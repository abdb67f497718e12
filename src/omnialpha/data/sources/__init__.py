"""Readers of public data sets in the layouts their authors publish: `read_source("aim500", folder)`.

Data sets that are folders with matching names are one line each of `matched.LAYOUTS`; those with annotations are in
`annotated`, those published as parquet files in `parquet`. Listing decodes nothing; `reading` does, record by record.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from omnialpha.data.sources.annotated import corpus, crello, photomatte85, refmatte_rw100
from omnialpha.data.sources.matched import LAYOUTS, described, folder, matched, rord
from omnialpha.data.sources.parquet import ober, prismlayers
from omnialpha.data.sources.reading import read_alpha, read_cutouts, read_layers, read_mask, stream
from omnialpha.data.sources.record import Box, Cell, Picture, Record
from omnialpha.errors import InputError, nearest

__all__ = [
    "SOURCES",
    "Box",
    "Cell",
    "Picture",
    "Record",
    "describe",
    "read_alpha",
    "read_cutouts",
    "read_layers",
    "read_mask",
    "read_source",
    "stream",
]

SOURCES: Mapping[str, Callable[[Path], list[Record]]] = {
    **{name: partial(matched, name) for name in LAYOUTS},
    "corpus": corpus,
    "crello": crello,
    "folder": partial(folder, "folder"),
    # Where their authors put the pictures is not documented: any usual arrangement is taken.
    "hhm2k": partial(folder, "hhm2k"),
    "human1k": partial(folder, "human1k"),
    "ober": ober,
    "photomatte85": photomatte85,
    "prismlayers": prismlayers,
    "refmatte_rw100": refmatte_rw100,
    "rord": rord,
}
"""Name of a data set to its reader, which takes the data set's folder."""


def describe(name: str) -> str:
    """What the folder of a data set has to look like, in one line.

    Args:
        name: Key of `SOURCES`.

    >>> describe("aim500")
    'original/ and mask/'
    >>> describe("folder")
    'Any folder of RGBA pictures, or of images beside alphas with the same names.'
    """
    if name in LAYOUTS and name != "rord":
        return " or ".join(described(split) for split in LAYOUTS[name])
    reader = SOURCES[name]
    return str(getattr(reader, "func", reader).__doc__).partition("\n")[0]


def read_source(name: str, root: str | Path, split: str | None = None) -> list[Record]:
    """List the entries of a data set.

    Args:
        name: Key of `SOURCES`.
        root: Its folder.
        split: Only this split; all of them by default.

    Returns:
        Records in an order that only names decide.

    Raises:
        InputError: An unknown data set or split, or a tree that does not fit; the message says what was expected.
        ImageError: RORD's pictures, a few of which are looked at, cannot be read.
        MissingExtraError: The data set is in parquet files and pyarrow is not installed.
    """
    if name not in SOURCES:
        known = f"; known: {', '.join(sorted(SOURCES))}"
        raise InputError(f'unknown data set "{name}"{nearest(name, SOURCES) or known}')
    records = SOURCES[name](Path(root))
    if split is None:
        return records
    chosen = [record for record in records if record.split == split]
    if not chosen:
        there = ", ".join(sorted({record.split for record in records}))
        raise InputError(f'{root}: {name} has no split "{split}" here; there is {there}')
    return chosen
