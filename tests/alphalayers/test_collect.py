"""Collecting: entries of data sets become cut-outs named by their pixels."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from omnialpha.alphalayers import collect as module
from omnialpha.alphalayers.advance import Dropped
from omnialpha.alphalayers.collect import collect, list_records
from omnialpha.alphalayers.parallel import in_order
from omnialpha.alphalayers.scenery import scenery
from omnialpha.alphalayers.store import Store
from omnialpha.data.sources import Record


def picture(file: Path, size: tuple[int, int] = (40, 20), colour: str = "red") -> Path:
    """A half transparent picture with colour under its transparent half."""
    image = Image.new("RGBA", size, colour)
    image.paste((9, 8, 7, 0), (0, 0, size[0] // 2, size[1]))
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    return file


def take(record: Record, store: Store, **options: Any) -> Any:
    return collect(record, store, size=options.pop("size", 100), seed=options.pop("seed", 0), **options)


def entry(file: Path, **fields: Any) -> Record:
    return Record(id=file.stem, source="tests", split="all", foreground=file, **fields)


def test_the_id_is_that_of_the_pixels_wherever_they_come_from(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (png,) = take(entry(picture(tmp_path / "a" / "red-kite.png"), licence="CC0"), store)
    Image.open(tmp_path / "a" / "red-kite.png").save(tmp_path / "kite.webp", lossless=True)
    (webp,) = take(entry(tmp_path / "kite.webp", captions=("a kite",), identity="kite"), store)
    (other,) = take(entry(picture(tmp_path / "blue.png", colour="blue")), store)

    assert png.id == webp.id != other.id
    assert (png.seed, png.foreground) == (webp.seed, webp.foreground)
    assert (png.given_caption, webp.given_caption) == ("red kite", "a kite")
    assert (png.name, png.licence, png.identity, webp.identity) == (
        "tests/red-kite", "CC0", "tests/red-kite", "tests/kite",
    )  # fmt: skip
    pixels = np.asarray(Image.open(png.foreground))
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]  # nothing hides under transparency
    assert pixels[0, 30].tolist() == [255, 0, 0, 255]
    assert take(entry(tmp_path / "kite.webp"), store, seed=1)[0].seed != webp.seed


def test_large_cutouts_are_scaled_and_layers_are_cutouts_of_their_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    layers = tuple(picture(tmp_path / f"{n}.png", colour=c) for n, c in enumerate(("white", "red", "blue")))
    record = Record(id="page", source="tests", split="all", layers=layers, captions=("a square", "a sky"))
    first, second = take(record, store, size=10)
    assert Image.open(first.foreground).size == (10, 5)
    assert (first.given_caption, second.given_caption) == ("a square", "a sky")
    assert first.identity == second.identity
    assert first.id != second.id


def test_an_entry_is_decoded_once_and_again_when_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, file = Store(tmp_path / "store"), picture(tmp_path / "kite.png")
    read, decoded = module.read_cutouts, []

    def counted(record: Record) -> Any:
        decoded.append(record.id)
        return read(record)

    monkeypatch.setattr(module, "read_cutouts", counted)
    first, again = take(entry(file), store), take(entry(file), store)
    assert first == again
    assert len(decoded) == 1

    times = file.stat()
    picture(file, colour="lime")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    (changed,) = take(entry(file), store)
    assert len(decoded) == 2
    assert changed.id != first[0].id


def test_what_cannot_be_read_is_dropped_with_its_reason(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "store"), tmp_path / "broken.png"
    missing = take(entry(file), store)
    assert isinstance(missing, Dropped)
    assert (missing.kind, missing.stage, missing.name) == ("failed", "collect", "tests/broken")
    assert "no such file" in missing.reason
    file.write_bytes(picture(tmp_path / "whole.png").read_bytes()[:60])
    assert "broken.png" in take(entry(file), store).reason
    assert len(take(entry(picture(file)), store)) == 1


def test_a_corpus_is_recognised(tmp_path: Path) -> None:
    picture(tmp_path / "plain" / "kite.png")
    assert [record.source for record in list_records(tmp_path / "plain", limit=5)] == ["folder"]
    (tmp_path / "plain" / "index.jsonl").write_text("")
    assert list_records(tmp_path / "plain") == []


def test_results_come_in_order_and_items_are_taken_only_a_little_ahead() -> None:
    taken = itertools.count()

    def endless() -> Any:
        while True:
            yield next(taken)

    results = in_order(lambda number: number * 2, endless(), workers=3)
    assert list(itertools.islice(results, 50)) == list(range(0, 100, 2))
    assert next(taken) < 50 + 20
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 // number, [2, 1, 0, 3], workers=2))


def test_scenery_is_drawn_by_its_seed() -> None:
    first, caption = scenery(5, 48, 32)
    assert first.size == (48, 32)
    assert (first.tobytes(), caption) == (scenery(5, 48, 32)[0].tobytes(), scenery(5, 48, 32)[1])
    drawn = {scenery(seed, 8, 8)[1] for seed in range(30)}
    assert len(drawn) == 5
    sky, ground = (np.asarray(first)[rows].astype(float) for rows in (slice(0, 8), slice(24, 32)))
    assert sky.mean() != pytest.approx(ground.mean(), abs=5)
    assert scenery(1, 1, 1)[0].size == (1, 1)
