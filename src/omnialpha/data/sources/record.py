"""What the readers of data sets yield: names and places of pictures, nothing decoded."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A picture kept inside a parquet file as Hugging Face's `datasets` stores it: {"bytes", "path"}.

    Attributes:
        file: The parquet file.
        row: Row of the whole file, from 0.
        column: Name of the column.
    """

    file: Path
    row: int
    column: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}, {self.column}"


Picture = Path | Cell
"""Where a picture is; `stream` opens it."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a layer on its canvas in pixels; right and bottom are outside."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One entry of a data set.

    Attributes:
        id: Unique within its source and split, safe as a file name.
        source: Name of the data set, a key of `SOURCES`.
        split: As the data set calls it, e.g. "train", "validation", "test".
        composite: The photograph to cut out from, to remove from or to take apart.
        foreground: Foreground colours, to which `alpha` belongs, or a finished RGBA cut-out when there is no `alpha`.
        alpha: Alpha matte of the foreground.
        trimap: 0, 128 and 255.
        mask: Binary mask of the object to remove.
        mask_inverted: In `mask`, 0 means object; `read_mask` turns it.
        background: The scene without the object.
        layers: Layers from back to front.
        boxes: Where each layer lies on the canvas, None for all of it; empty when every layer has the canvas's size.
        captions: One per foreground (per layer above the lowest); for RefMatte-RW100 the expressions of one object.
        official_caption: Index of the expression that RefMatte-RW100's own evaluation uses.
        background_caption: What the background shows.
        composite_caption: What the whole picture shows.
        licence: Where the data set states one per picture.
        identity: Of the object, where several records may show the same one and the data set says which.
    """

    id: str
    source: str
    split: str
    composite: Picture | None = None
    foreground: Picture | None = None
    alpha: Picture | None = None
    trimap: Picture | None = None
    mask: Picture | None = None
    mask_inverted: bool = False
    background: Picture | None = None
    layers: tuple[Picture, ...] = ()
    boxes: tuple[Box | None, ...] = ()
    captions: tuple[str, ...] = ()
    official_caption: int | None = None
    background_caption: str = ""
    composite_caption: str = ""
    licence: str = ""
    identity: str = ""
