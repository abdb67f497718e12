"""Broken files: whatever the bytes, a reader returns a picture or raises one of our errors with one line, soon.

Seeded mutations of small valid files of every kind that is read, more than 2,000 in all. Checksums of PNGs and the
packaging of ORAs are repaired after half of the mutations, so that the damage reaches the decoders behind them.
"""

import io
import random
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from omnialpha import formats
from omnialpha.errors import OmniAlphaError
from omnialpha.imaging import rgba
from stacks import noise, sample_stack

CASES_PER_FILE = 100
SLOWEST_SECONDS = 5.0  # generous: a case takes milliseconds


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _pictures() -> dict[str, bytes]:
    image = noise(13, 11, 0)
    rgb = image.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    deep = np.random.default_rng(0).integers(0, 65536, (11, 13, 4), dtype=np.uint16)
    return {
        "rgba.png": _encoded(image, "PNG", exif=exif, icc_profile=profile),
        "palette.png": _encoded(rgb.quantize(16), "PNG", transparency=b"\0\x7f"),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "rgb.jpg": _encoded(rgb, "JPEG", exif=exif, icc_profile=profile),
        "progressive.jpg": _encoded(rgb, "JPEG", progressive=True),
        "cmyk.jpg": _encoded(rgb.convert("CMYK"), "JPEG"),
        "lossless.webp": _encoded(image, "WEBP", lossless=True, exif=exif),
        "lossy.webp": _encoded(image, "WEBP", icc_profile=profile),
        "small.avif": _encoded(image, "AVIF", exif=exif, xmp=b"<x/>"),
        "raw.tiff": _encoded(image, "TIFF", icc_profile=profile),
        "lzw.tiff": _encoded(rgb, "TIFF", compression="tiff_lzw", exif=exif),
        "deep.tiff": cv2.imencode(".tiff", deep)[1].tobytes(),
        "rgb.bmp": _encoded(rgb, "BMP"),
        "palette.bmp": _encoded(rgb.quantize(16), "BMP"),
    }


PICTURES = _pictures()


def _mutate(content: bytes, chance: random.Random) -> bytes:
    """One to four small injuries."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not data:
            break
        at = chance.randrange(len(data))
        span = min(chance.choice([1, 1, 2, 4, 16, 64]), len(data) - at)
        kind = chance.choice(["flip", "random", "extreme", "delete", "repeat", "cut", "swap"])
        if kind == "flip":
            data[at] ^= 1 << chance.randrange(8)
        elif kind == "random":
            data[at : at + span] = chance.randbytes(span)
        elif kind == "extreme":
            data[at : at + span] = chance.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * span
        elif kind == "delete":
            del data[at : at + span]
        elif kind == "repeat":
            data[at:at] = data[at : at + span] * chance.choice([1, 2, 30])
        elif kind == "cut":
            del data[at:]
        else:
            other = chance.randrange(len(data))
            data[at], data[other] = data[other], data[at]
    return bytes(data)


def _mutate_text(content: bytes, chance: random.Random) -> bytes:
    """Numbers and words of a JSON or XML text exchanged for nastier ones."""
    words = [
        b"-1",
        b"0",
        b"1e999",
        b"99999999999",
        b"NaN",
        b"null",
        b"true",
        b'""',
        b"[]",
        b"{}",
        b"\xff",
        b"&#0;",
        b"../x",
    ]
    text = content.split(b'"')
    for _ in range(chance.randint(1, 3)):
        text[chance.randrange(len(text))] = chance.choice(words)
    return b'"'.join(text)


def _repair_png(data: bytes) -> bytes:
    """Make the checksums of all chunks right again."""
    result, at = data[:8], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + min(length, len(data) - at - 12)]
        result += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        at += 8 + len(body)
    return result


def _outcomes(cases: list[Callable[[], object]]) -> dict[str, int]:
    """Run all; anything but success or a one-line error of ours fails the test."""
    counts = {"read": 0, "refused": 0}
    for case in cases:
        start, message = time.perf_counter(), ""
        try:
            case()
        except OmniAlphaError as error:
            message = str(error)
        counts["refused" if message else "read"] += 1
        assert not message or (": " in message and "\n" not in message)
        assert time.perf_counter() - start < SLOWEST_SECONDS
    return counts


@pytest.mark.filterwarnings("error")  # decoders warn a lot about such files: none of it may reach the user's screen
@pytest.mark.parametrize("name", PICTURES)
def test_broken_pictures(name: str) -> None:
    chance = random.Random(name)
    cases: list[Callable[[], object]] = []
    for number in range(CASES_PER_FILE):
        data = _mutate(PICTURES[name], chance)
        if name.endswith("png") and number % 2:
            data = _repair_png(data)
        cases.append(lambda data=data: rgba.read_array(io.BytesIO(data)))  # type: ignore[misc]
        if number % 4 == 0:
            cases.append(lambda data=data: rgba.read_metadata(io.BytesIO(data)))  # type: ignore[misc]
    counts = _outcomes(cases)
    assert counts["refused"] > CASES_PER_FILE // 20


def _headed(name: str, content: bytes) -> int:
    """Where the structure of a layered file, in which damage is worst, ends and its pixels begin."""
    marks = {".psb": b"8BIMnorm", ".exr": b"scanlineimage", ".tiff": b"omnialpha layers", ".svg": b"base64,"}
    return content.index(marks[Path(name).suffix]) + 600


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["a.psb", "a.tiff", "a.svg", "parts.exr", "layers.exr"])
def test_broken_layered_files(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenEXR and libtiff talk about broken files behind Python's back, which ``capfd`` keeps off the screen."""
    chance = random.Random(name)
    formats.save(sample_stack(), tmp_path / name, format="exr-layers" if name == "layers.exr" else None)
    content = (tmp_path / name).read_bytes()
    structure = _headed(name, content)

    def case(number: int) -> object:
        mutate = _mutate_text if name.endswith("svg") and number % 3 == 0 else _mutate
        data = mutate(content[:structure], chance) + content[structure:] if number % 2 else mutate(content, chance)
        (tmp_path / name).write_bytes(data)
        return formats.open(tmp_path / name).flatten()

    counts = _outcomes([lambda number=number: case(number) for number in range(CASES_PER_FILE)])  # type: ignore[misc]
    assert counts["read"] > 0
    assert counts["refused"] > 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(4))
def test_broken_psd(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    formats.save(sample_stack(), tmp_path / "good.psd")
    content = (tmp_path / "good.psd").read_bytes()
    structure = content.index(b"8BIMnorm") + 600  # header, resources and layer records, where the damage is worst

    def case(number: int) -> object:
        data = _mutate(content[:structure], chance) + content[structure:] if number % 2 else _mutate(content, chance)
        (tmp_path / "bad.psd").write_bytes(data)
        return formats.open(tmp_path / "bad.psd").flatten()

    counts = _outcomes([lambda number=number: case(number) for number in range(CASES_PER_FILE)])  # type: ignore[misc]
    assert counts["read"] > 0
    assert counts["refused"] > 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(2))
def test_broken_ora(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    formats.save(sample_stack(), tmp_path / "good.ora")
    content = (tmp_path / "good.ora").read_bytes()
    with zipfile.ZipFile(tmp_path / "good.ora") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def repacked() -> bytes:
        changed = dict(members)
        name = chance.choice([*["stack.xml"] * 3, *members])
        textual = name.endswith(("xml", "json")) and chance.random() < 0.7
        changed[name] = (_mutate_text if textual else _mutate)(members[name], chance)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in changed.items():
                archive.writestr(member, data)
        return buffer.getvalue()

    def case(number: int) -> object:
        (tmp_path / "bad.ora").write_bytes(repacked() if number % 2 else _mutate(content, chance))
        return formats.open(tmp_path / "bad.ora").flatten()

    counts = _outcomes([lambda number=number: case(number) for number in range(CASES_PER_FILE)])  # type: ignore[misc]
    assert counts["read"] > 0
    assert counts["refused"] > 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(2))
def test_broken_png_folder(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path / "layers"
    formats.save(sample_stack(), folder)
    good = {path: path.read_bytes() for path in folder.iterdir()}

    def case(number: int) -> object:
        path = folder / "manifest.json" if number % 3 else chance.choice(list(good))
        textual = path.suffix == ".json" and number % 2
        path.write_bytes((_mutate_text if textual else _mutate)(good[path], chance))
        try:
            return formats.open(folder).flatten()
        finally:
            path.write_bytes(good[path])

    counts = _outcomes([lambda number=number: case(number) for number in range(CASES_PER_FILE)])  # type: ignore[misc]
    assert counts["read"] > 0
    assert counts["refused"] > 5
