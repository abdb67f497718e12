"""From two folders to a manifest: cut-outs pasted over photographs, with every layer known exactly."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omnialpha.data.manifest import Sample, write_manifest
from omnialpha.data.scenes import Backdrop, Scene, Stock, as_cutout, draw_scene
from omnialpha.errors import ImageError, InputError
from omnialpha.imaging import rgba

SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg")
MANIFEST = "manifest.jsonl"
HELD_OUT = 10  # every tenth cut-out and every tenth background make the test scenes, a tenth of all


def paste_scenes(
    cutouts: Path, backgrounds: Path, out: Path, *, scenes: int, size: int, most: int = 2, seed: int = 0
) -> Path:
    """Compose scenes and write them as training samples.

    Every tenth cut-out and every tenth background (by name) are kept for test scenes, so that validation sees nothing
    that was trained on; with fewer than ten of either there is no test split.

    Args:
        cutouts: folder of RGBA pictures; the caption of ``name.png`` stands in ``name.txt``, else it is the name.
        backgrounds: folder of photographs, captioned in the same way.
        out: folder for the pictures and ``manifest.jsonl``; what is there is replaced.
        scenes: how many.
        size: width and height of a scene, pixels.
        most: cut-outs in a scene, from one to this many.
        seed: of every choice.

    Returns:
        The manifest.

    Raises:
        ImageError: a file cannot be read, or a cut-out has no transparent pixel.
        InputError: a folder holds no pictures.
        OutputError: the result cannot be written.
    """
    objects, places = pictures(cutouts), pictures(backgrounds)
    stocks = {"train": _stock(objects, places, size)}
    if min(len(objects), len(places)) >= HELD_OUT:
        stocks = {
            "test": _stock(objects[::HELD_OUT], places[::HELD_OUT], size),
            "train": _stock(_without_tenths(objects), _without_tenths(places), size),
        }
    samples = []
    for number in range(scenes):
        split = "test" if "test" in stocks and number % HELD_OUT == 0 else "train"
        stock = stocks[split]
        rng = np.random.default_rng([seed, number])
        count = int(rng.integers(1, min(most, len(stock.cutouts)) + 1))
        samples.append(_write(draw_scene(stock, rng, size, count), out, f"{number:05d}", split))
    write_manifest(samples, out / MANIFEST)
    return out / MANIFEST


def caption_of(picture: Path) -> str:
    """The text in ``name.txt`` beside a picture, else what its name says.

    >>> caption_of(Path("red-kite_03.png"))
    'red kite'
    """
    text = picture.with_suffix(".txt")
    if text.is_file():
        return " ".join(text.read_text(encoding="utf-8").split())
    words = picture.stem.replace("-", " ").replace("_", " ").split()
    return " ".join(word for word in words if not word.isdigit())


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, in the order of their names.

    Raises:
        InputError: there are none.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder}: holds no pictures; expected a folder of {', '.join(SUFFIXES)} files")
    return files


def _without_tenths(files: Sequence[Path]) -> list[Path]:
    return [file for place, file in enumerate(files) if place % HELD_OUT]


def _stock(cutouts: Sequence[Path], backgrounds: Sequence[Path], size: int) -> Stock:
    """The pictures in memory, no larger than scenes of this size need."""
    objects = []
    for file in cutouts:
        image = rgba.read(file)
        if image.getchannel("A").getextrema()[0] == 255:
            raise ImageError(f"{file}: has no transparent pixels; expected a cut-out, such as `omnialpha matte` makes")
        image = image.crop(image.getchannel("A").getbbox())
        image.thumbnail((2 * size, 2 * size))
        objects.append(as_cutout(image, caption=caption_of(file), name=file.stem))
    places = []
    for file in backgrounds:
        photograph = rgba.read(file).convert("RGB")
        photograph.thumbnail((4 * size, 4 * size))  # as little as a third of it is seen
        places.append(Backdrop(image=photograph, caption=caption_of(file), name=file.stem))
    return Stock(objects, places)


def _write(scene: Scene, out: Path, name: str, split: str) -> Sample:
    """Save the layers of a scene."""
    assert scene.background is not None
    files = [out / "foregrounds" / f"{name}-{place}.png" for place in range(len(scene.foregrounds))]
    background, composite = out / "backgrounds" / f"{name}.png", out / "composites" / f"{name}.png"
    for layer, file in zip(
        (*scene.foregrounds, scene.background, scene.composite), (*files, background, composite), strict=True
    ):
        rgba.save_png(rgba.to_pil(layer), file, overwrite=True)
    return Sample(
        id=name,
        foregrounds=tuple(files),
        background=background,
        composite=composite,
        captions=scene.captions,
        background_caption=scene.background_caption,
        composite_caption=scene.composite_caption,
        split=split,
    )
