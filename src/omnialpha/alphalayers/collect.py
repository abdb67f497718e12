"""Stage 1: the entries of a data set become RGBA cut-outs in the store, and the first triplets.

A cut-out lies in the store under the hash of its pixels, so what follows does not depend on where it came from. Which
cut-outs an entry gave is remembered under its name and the hash of its files: a resumed run decodes none of them.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from omnialpha.alphalayers.advance import Dropped
from omnialpha.alphalayers.store import FAILED, Failure, Question, Store
from omnialpha.alphalayers.triplet import Triplet
from omnialpha.data.cutouts import zero_hidden_colour
from omnialpha.data.naming import words
from omnialpha.data.paste import caption_of
from omnialpha.data.sources import Picture, Record, read_cutouts, read_source, stream
from omnialpha.errors import ImageError, MissingExtraError, OutputError
from omnialpha.imaging.files import opened
from omnialpha.imaging.rgba import save_png, to_pil

STAGE = "collect"
_VERSION = 1
_NAMELESS = frozenset({"img", "image", "dsc", "dscf", "dscn", "pxl", "photo", "picture", "untitled", "screenshot"})


def list_records(source: Path, name: str | None = None, limit: int | None = None) -> list[Record]:
    """The entries of a data set that have a cut-out.

    Args:
        source: Its folder.
        name: Key of `data.sources.SOURCES`; by default "corpus" where there is an `index.jsonl`, else "folder".
        limit: Only the first so many.

    Returns:
        Names and places of pictures; nothing is decoded.

    Raises:
        InputError: An unknown name, or a tree that does not fit.
        MissingExtraError: The data set is in parquet files and pyarrow is not installed.
    """
    if name is None:
        name = "corpus" if (source / "index.jsonl").is_file() else "folder"
    return read_source(name, source)[:limit]


def collect(
    record: Record, store: Store, *, size: int, seed: int, retry_failed: bool = False
) -> list[Triplet] | Dropped:
    """Read the cut-outs of an entry, or find them in the store.

    Args:
        record: With a foreground, a composite and its alpha, or layers.
        store: Receives the cut-outs, as `foreground/<id>.png`.
        size: Longest side in pixels; larger cut-outs are scaled down.
        seed: Of the build.
        retry_failed: Read it again if it could not be read before.

    Returns:
        A triplet per cut-out (several for a layered picture), or why there is none.

    Raises:
        MissingExtraError: Estimating foreground colours needs the extra "baselines".
        OutputError: A cut-out cannot be kept.
    """
    try:
        question = _question(record, size)
    except ImageError as error:  # not there, or not to be opened: nothing to keep a record of
        return Dropped(id="", name=_name(record), stage=STAGE, kind=FAILED, reason=str(error))
    result, failure = store.find(question), store.failure(question)
    if result is None and (failure is None or retry_failed):
        try:
            found = [_keep(pixels, store, size, caption) for pixels, caption in _read(record)]
        except (MissingExtraError, OutputError):
            raise  # it would be the same for every entry
        except Exception as error:  # broken files break decoders in every way there is
            failure = Failure(kind=FAILED, reason=" ".join(str(error).split()) or type(error).__name__)
            store.put_failure(question, failure)
        else:
            result = {"values": {"cutouts": found}, "pictures": []}
            store.put(question, result)
    if result is None:
        assert failure is not None
        return Dropped(id="", name=_name(record), stage=STAGE, kind=failure.kind, reason=failure.reason)
    cutouts: list[dict[str, str]] = result["values"]["cutouts"]
    return [
        Triplet(
            id=cutout["id"],
            seed=int(hashlib.sha256(f"{seed}/{cutout['id']}".encode()).hexdigest()[:8], 16),
            name=_name(record),
            source=record.source,
            licence=record.licence,
            identity=f"{record.source}/{record.identity or record.id}",
            given_caption=cutout["caption"],
            foreground=_place(store, cutout["id"]),
            stages={STAGE: question.key},
        )
        for cutout in cutouts
    ]


def given_caption(record: Record, caption: str) -> str:
    """What is known of a cut-out: its caption, else what its file is called, else nothing.

    Args:
        record: Its entry.
        caption: Of the data set; "" without one.

    >>> given_caption(Record(id="1", source="folder", split="all", foreground=Path("red-kite_03.png")), "")
    'red kite'
    >>> given_caption(Record(id="1", source="folder", split="all", foreground=Path("IMG_2031.png")), "")
    ''
    """
    lead = record.foreground or record.composite
    if caption or not isinstance(lead, Path):
        return caption
    named = caption_of(lead)
    telling = [word for word in words(named) if len(word) > 2 and word not in _NAMELESS]
    return named if telling else ""


def _name(record: Record) -> str:
    return f"{record.source}/{record.id}"


def _question(record: Record, size: int) -> Question:
    """What an entry is: its name, what is said of it, and what is in its files."""
    pictures = [record.foreground, record.alpha, record.composite, *record.layers]
    inputs = {
        "entry": _name(record),
        "files": [_digest(picture) for picture in pictures if picture is not None],
        "captions": [given_caption(record, caption) for caption in record.captions or ("",)],
    }
    return Question(stage=STAGE, version=_VERSION, settings={"size": size}, inputs=inputs)


def _digest(picture: Picture) -> str:
    """Hash of a file, or of a picture inside one."""
    with opened(stream(picture)) as (content, _):
        return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # BinaryIO does have readinto


def _read(record: Record) -> Iterator[tuple[Image.Image, str]]:
    for pixels, caption in read_cutouts(record):
        yield to_pil(pixels), given_caption(record, caption)


def _keep(image: Image.Image, store: Store, size: int, caption: str) -> dict[str, str]:
    """Put a cut-out into the store under the hash of its pixels."""
    image.thumbnail((size, size), Image.Resampling.LANCZOS)  # of RGBA, Pillow resizes premultiplied colours
    image = zero_hidden_colour(image)
    digest = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()[:32]
    place = _place(store, digest)
    if not place.is_file():
        save_png(image, place, overwrite=True)
    return {"id": digest, "caption": caption}


def _place(store: Store, digest: str) -> Path:
    """File of a cut-out."""
    return store.folder / "foreground" / digest[:2] / f"{digest}.png"
