"""The contact sheet of a build: one HTML file, without network, with every sample and all that is known of it.

Thumbnails lie inside the page. What sorting and filtering need is read when the page opens; the pictures of a sample
only when its card comes into sight, so that a thousand samples stay light.
"""

import base64
import html
import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from omnialpha.alphalayers.contents import by_count, reasons
from omnialpha.alphalayers.finished import Finished, read_finished
from omnialpha.errors import InputError
from omnialpha.imaging import rgba
from omnialpha.imaging.files import atomic_write

LIMIT = 1000
"""Samples in a page by default: as many as the paper keeps."""

_QUALITY = 78
_READERS = 4  # samples at once: decoders release Python's lock
_BATCH = 32  # samples whose thumbnails are in memory
_MARK = "<!-- {} -->"


def preview(out: Path, page: Path, *, limit: int = LIMIT, side: int = 192) -> int:
    """Write the page, replacing an older one.

    Args:
        out: Folder of the build.
        page: HTML file.
        limit: Most samples in the page; of more, so many are shown, spread evenly over the scores, best and worst
            among them.
        side: Longest side of a thumbnail, pixels. At 192 a sample takes about 25 kB.

    Returns:
        How many samples are in the page.

    Raises:
        InputError: The build is not finished.
        ImageError: A picture cannot be read.
        OutputError: The page cannot be written.
    """
    index = [_known(each) for each in read_finished(out)]
    if not index:
        raise InputError(f"{out}: no sample was left; `omnialpha data status {out}` says what was dropped")
    chosen = spread([record["score"] for record in index], limit)
    shown = (each for place, each in enumerate(read_finished(out)) if place in chosen)
    known = {
        "samples": [record for place, record in enumerate(index) if place in chosen],
        "dropped": [[*reason, count] for reason, count in by_count(reasons(out))],
        "total": len(index),
    }
    before, after = _template(f"{out.resolve().name}: AlphaLayers").split(_MARK.format("samples"))
    with atomic_write(page, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(before)
        file.write(_script("index", known))
        for place, pictures in enumerate(_thumbnails(shown, side)):
            file.write(_script(f"pictures-{place}", pictures))
        file.write(after)
    return len(chosen)


def spread(scores: list[float | None], limit: int) -> set[int]:
    """Choose places evenly from the best to the worst score.

    Args:
        scores: One per sample; those without a score count as the worst.
        limit: How many places, at least 1.

    >>> sorted(spread([0.1, 0.9, 0.5, 0.2, 0.3], 3))
    [0, 1, 4]
    """
    ranked = sorted(range(len(scores)), key=lambda place: (scores[place] is None, scores[place] or 0.0, place))
    if len(ranked) <= limit:
        return set(ranked)
    return {ranked[round(step * (len(ranked) - 1) / max(limit - 1, 1))] for step in range(limit)}


def _known(each: Finished) -> dict[str, Any]:
    return {"id": each.sample.id, "split": each.sample.split, **each.texts, **each.numbers}


def _thumbnails(samples: Iterable[Finished], side: int) -> Iterator[dict[str, str]]:
    """The pictures of each sample as data URIs, some samples at once."""
    waiting = iter(samples)
    with ThreadPoolExecutor(_READERS) as pool:
        while batch := list(islice(waiting, _BATCH)):
            yield from pool.map(lambda each: _pictures(each, side), batch)


def _pictures(each: Finished, side: int) -> dict[str, str]:
    pictures = {name: rgba.read(file) for name, file in each.pictures.items()}
    pictures["recomposite"] = Image.alpha_composite(pictures["background"], pictures["foreground"])
    return {name: _data_uri(image, side) for name, image in pictures.items()}


def _data_uri(image: Image.Image, side: int) -> str:
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=_QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _template(title: str) -> str:
    """The page with its style and script inside."""
    folder = resources.files("omnialpha.alphalayers") / "preview_page"
    page, style, script = (
        (folder / name).read_text(encoding="utf-8") for name in ("index.html", "preview.css", "preview.js")
    )
    return (
        page.replace(_MARK.format("title"), html.escape(title))
        .replace(_MARK.format("style"), style)
        .replace(_MARK.format("script"), script)
    )


def _script(name: str, value: Any) -> str:
    """Data for the page. No text in it can end the element: "<" is written as JSON's escape of it."""
    text = json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'
