"""Prepared corpora as one small file, to carry to a machine that reaches no registry.

    python -m omnialpha.data.pack CORPORA OUT.zip [--size 192] [--quality 90]
    python -m zipfile -e OUT.zip CORPORA        # there

Pictures are scaled down and stored as WebP; the index, with its split and licences, stays the same but for their paths.
The file is a copy of the pictures under their own licences: carry it to your machines, do not publish it.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import zipfile
from pathlib import Path

from PIL import Image

from omnialpha.errors import InputError, OmniAlphaError
from omnialpha.imaging.files import atomic_write

logger = logging.getLogger(__name__)


def pack(corpora: str | Path, file: str | Path, *, size: int = 192, quality: int = 90) -> Path:
    """Write a zip file of prepared corpora.

    Args:
        corpora: Folder written by `omnialpha.data.corpora.prepare`.
        file: The zip file; replaced when it exists.
        size: Upper limit of a cut-out's longest side and of half a background's shortest side, pixels.
        quality: Of the colours, 0 to 100; alpha is stored without loss.

    Returns:
        The file.

    Raises:
        InputError: There is no index.
    """
    index = Path(corpora) / "index.jsonl"
    if not index.is_file():
        raise InputError(f"{corpora}: no index.jsonl; make it with `python -m omnialpha.data.corpora {corpora}`")
    records = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    with atomic_write(file, overwrite=True) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for record in records:
            with Image.open(index.parent / record["path"]) as image:
                content = _as_webp(_scaled(image, record["kind"], size), quality)
            record["path"] = Path(record["path"]).with_suffix(".webp").as_posix()
            archive.writestr(record["path"], content)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        archive.writestr(index.name, "".join(lines), compress_type=zipfile.ZIP_DEFLATED)
    return Path(file)


def _scaled(image: Image.Image, kind: str, size: int) -> Image.Image:
    """The picture in "RGBA" or "RGB", shrunk where it is larger than the limit."""
    picture = image.convert("RGBA" if kind == "foreground" else "RGB")
    factor = size / max(picture.size) if kind == "foreground" else 2 * size / min(picture.size)
    if factor >= 1:
        return picture
    shape = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(shape, Image.Resampling.LANCZOS)  # Pillow resizes RGBA premultiplied


def _as_webp(image: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "WEBP", quality=quality, method=6)
    return content.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Pack a folder and log the size."""
    parser = argparse.ArgumentParser(prog="python -m omnialpha.data.pack", description="Pack prepared corpora.")
    parser.add_argument("corpora", type=Path, help="folder made by `python -m omnialpha.data.corpora`")
    parser.add_argument("out", type=Path, help="zip file to write")
    parser.add_argument("--size", type=int, default=192, help="longest side of a cut-out in pixels (default: 192)")
    parser.add_argument("--quality", type=int, default=90, help="of the colours, 0 to 100 (default: 90)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        file = pack(options.corpora, options.out, size=options.size, quality=options.quality)
    except OmniAlphaError as error:
        parser.exit(1, f"error: {error}\n")
    logger.info("%s: %.1f MB", file, file.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
