"""Decoding against OpenCV, Pillow, littleCMS and hand-made files of every kind that is promised."""

import io
import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from omnialpha.errors import ImageError
from omnialpha.imaging.decode import MAX_PIXELS, decode

WIDTH, HEIGHT = 23, 17


def _noise(channels: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (HEIGHT, WIDTH, channels), dtype=dtype)


def _file(image: Image.Image, format: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    buffer.name = f"picture.{format.lower()}"
    return buffer


def _png(colour_type: int, samples: np.ndarray, *chunks: tuple[bytes, bytes]) -> io.BytesIO:
    """A PNG by the specification, 8 or 16 bits, no filter."""
    depth = samples.dtype.itemsize * 8
    big_endian = samples.astype(samples.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + body)


def _rgba(samples: np.ndarray) -> np.ndarray:
    """Grey, grey and alpha, or RGB to RGBA."""
    opaque = np.full((*samples.shape[:2], 1), np.iinfo(samples.dtype).max, samples.dtype)
    colours = samples[..., :3] if samples.shape[2] > 2 else np.repeat(samples[..., :1], 3, axis=2)
    return np.concatenate([colours, samples[..., -1:] if samples.shape[2] in (2, 4) else opaque], axis=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_png_of_every_kind_keeps_every_bit(colour_type: int, channels: int, dtype: type) -> None:
    samples = _noise(channels, dtype)
    decoded = decode(_png(colour_type, samples))
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, _rgba(samples))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_png_transparent_colour(colour_type: int, channels: int, dtype: type) -> None:
    samples = _noise(channels, dtype)
    key = samples[5, 7].astype(np.uint16)
    samples[2, 3] = samples[5, 7]
    expected = _rgba(samples)
    expected[(samples == samples[5, 7]).all(axis=2), 3] = 0
    np.testing.assert_array_equal(decode(_png(colour_type, samples, (b"tRNS", key.astype(">u2").tobytes()))), expected)


def test_png_transparent_colour_must_match_all_16_bits() -> None:
    samples = np.array([[[0x1234, 0, 0], [0x12FF, 0, 0]]], np.uint16)
    alpha = decode(_png(2, samples, (b"tRNS", bytes.fromhex("123400000000"))))[..., 3]
    assert alpha.tolist() == [[0, 65535]]


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_files_of_opencv(extension: str, channels: int) -> None:
    """Filtered PNG rows and LZW-compressed TIFF strips, as another program writes them."""
    samples = _noise(channels, np.uint16)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    _, encoded = cv2.imencode(extension, samples[..., order])
    decoded = decode(io.BytesIO(encoded.tobytes()))
    np.testing.assert_array_equal(decoded, _rgba(samples))


def _tiff16(samples: np.ndarray, byte_order: str, tags: dict[int, int]) -> io.BytesIO:
    """An uncompressed TIFF by the specification, one strip."""
    channels = samples.shape[2]
    data = samples.astype(f"{byte_order}u2").tobytes()
    bits_at = 8 + len(data)
    ifd_at = bits_at + 2 * channels
    entries = {256: WIDTH, 257: HEIGHT, 259: 1, 273: 8, 277: channels, 278: HEIGHT, 279: len(data), **tags}
    rows = [(tag, 4, 1, struct.pack(f"{byte_order}I", value)) for tag, value in entries.items()]
    bits = struct.pack(f"{byte_order}{channels}H", *[16] * channels)
    rows.append((258, 3, channels, bits.ljust(4, b"\0") if channels < 3 else struct.pack(f"{byte_order}I", bits_at)))
    ifd = struct.pack(f"{byte_order}H", len(rows))
    ifd += b"".join(struct.pack(f"{byte_order}HHI", *row[:3]) + row[3] for row in sorted(rows))
    magic = (b"II" if byte_order == "<" else b"MM") + struct.pack(f"{byte_order}HI", 42, ifd_at)
    return io.BytesIO(magic + data + bits + ifd + bytes(4))


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_16_bit_tiff_of_both_byte_orders(byte_order: str) -> None:
    straight = _noise(4, np.uint16)
    np.testing.assert_array_equal(decode(_tiff16(straight, byte_order, {262: 2, 338: 2})), straight)
    grey = _noise(1, np.uint16)
    np.testing.assert_array_equal(decode(_tiff16(grey, byte_order, {262: 1})), _rgba(grey))


def test_16_bit_tiff_where_white_is_zero() -> None:
    samples = _noise(1, np.uint16)
    np.testing.assert_array_equal(decode(_tiff16(samples, "<", {262: 0})), _rgba(65535 - samples))


def test_16_bit_tiff_with_premultiplied_alpha_becomes_straight() -> None:
    straight = _noise(4, np.uint16)
    straight[..., 3] = np.maximum(straight[..., 3], 30000)
    premultiplied = straight.astype(np.float64)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 65535
    decoded = decode(_tiff16(np.rint(premultiplied).astype(np.uint16), "<", {262: 2, 338: 1}))
    assert np.abs(decoded.astype(int) - straight).max() <= 2


def test_16_bit_kinds_that_cannot_be_read_are_refused_not_garbled() -> None:
    with pytest.raises(ImageError, match="16-bit samples of the kind .*; save it as 16 bit RGB"):
        decode(_tiff16(_noise(4, np.uint16), "<", {262: 5}))  # CMYK
    with pytest.raises(ImageError, match="16-bit samples"):
        decode(_tiff16(_noise(3, np.uint16), "<", {262: 2, 284: 2}))  # one plane after the other


def test_palette_with_alpha_and_bilevel() -> None:
    image = Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH).astype(np.uint8) % 4, "L")
    palette = image.convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    decoded = decode(_file(palette, "PNG", transparency=b"\x00\x80\xff"))
    colours = np.array([[255, 0, 0, 0], [0, 255, 0, 128], [0, 0, 255, 255], [9, 9, 9, 255]], np.uint8)
    np.testing.assert_array_equal(decoded, colours[np.asarray(image)])
    bilevel = Image.fromarray(_noise(1)[..., 0] > 99)
    np.testing.assert_array_equal(decode(_file(bilevel, "PNG"))[..., 0], np.asarray(bilevel) * np.uint8(255))


@pytest.mark.parametrize(
    ("format", "options"), [("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}), ("GIF", {})]
)
def test_lossless_formats(format: str, options: dict[str, bool]) -> None:
    samples = _noise(4) if format != "GIF" else _rgba(_noise(1) // 16 * 16)
    np.testing.assert_array_equal(decode(_file(Image.fromarray(samples), format, **options)), samples)


def test_bmp_and_jpeg_are_opaque() -> None:
    samples = _noise(3)
    np.testing.assert_array_equal(decode(_file(Image.fromarray(samples), "BMP")), _rgba(samples))
    buffer = _file(Image.fromarray(samples), "JPEG")
    reference = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert reference is not None
    decoded = decode(buffer)
    assert np.abs(decoded[..., :3].astype(int) - reference).max() <= 3  # two implementations of the inverse DCT
    assert (decoded[..., 3] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation: int, format: str, caplog: pytest.LogCaptureFixture) -> None:
    image = Image.fromarray(np.repeat(np.repeat(_noise(3)[:3, :2], 16, axis=0), 16, axis=1))
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = _file(image, format, exif=exif)
    with caplog.at_level(logging.INFO, "omnialpha"):
        decoded = decode(buffer)
    expected = ImageOps.exif_transpose(Image.open(buffer)).convert("RGBA")
    np.testing.assert_array_equal(decoded, np.asarray(expected))
    assert decoded.shape[:2] == ((48, 32) if orientation < 5 else (32, 48))
    assert ("turned upright" in caplog.text) == (orientation > 1)


def test_exif_orientation_of_16_bit_files() -> None:
    samples = _noise(4, np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(_png(6, samples, (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))))
    np.testing.assert_array_equal(decoded, np.rot90(samples, -1))
    for samples, colours in ((_noise(4, np.uint16), 2), (_noise(1, np.uint16), 1)):
        decoded = decode(_tiff16(samples, "<", {262: colours, 274: 6} | ({338: 2} if colours == 2 else {})))
        np.testing.assert_array_equal(decoded, np.rot90(_rgba(samples), -1))


def _profile(primaries: str) -> bytes:
    """An RGB profile with red and green exchanged, so that converting it cannot be missed."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    entries = {profile[132 + 12 * i :][:4].decode(): 132 + 12 * i for i in range(count)}
    if primaries == "swapped":
        red, green = (slice(entries[key] + 4, entries[key] + 12) for key in ("rXYZ", "gXYZ"))
        profile[red], profile[green] = profile[green], profile[red]
        profile = profile.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    return bytes(profile)


def test_icc_profiles_are_converted_to_srgb_and_alpha_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    samples = _noise(4)
    with caplog.at_level(logging.INFO, "omnialpha"):
        decoded = decode(_file(Image.fromarray(samples), "PNG", icc_profile=_profile("swapped")))
    assert np.abs(decoded.astype(int) - samples[..., [1, 0, 2, 3]]).max() <= 1
    assert 'picture.png: converted from "xRGB built-in" to sRGB' in caplog.messages
    deep = samples.astype(np.uint16) * 257 + 1
    chunk = b"x\0\0" + zlib.compress(_profile("swapped"))
    decoded = decode(_png(6, deep, (b"iCCP", chunk)))
    assert np.abs(decoded.astype(int) - deep[..., [1, 0, 2, 3]])[..., :3].max() <= 2 * 257
    np.testing.assert_array_equal(decoded[..., 3], deep[..., 3])


def _icc(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile by the specification (ICC.1, version 2): header, table of tags, tags."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": description, b"wtpt": white, **tags}
    at, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", at + len(data), bytes(4), 0x02400000, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def test_a_grey_profile_is_applied() -> None:
    """Gamma 1.8, as on old Macs; the formula of sRGB is the reference."""
    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256))
    profile = _icc(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": gamma})
    ramp = np.arange(256, dtype=np.uint8)[None]
    decoded = decode(_file(Image.fromarray(ramp), "PNG", icc_profile=profile))
    linear = (ramp / 255) ** 1.8
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(decoded[..., :3].astype(float) - expected[..., None]).max() <= 2
    assert np.abs(expected - ramp).max() > 15
    assert (decoded[..., 3] == 255).all()


def test_a_cmyk_profile_is_applied() -> None:
    """A press whose cyan ink prints red and whose black ink prints mid grey: no formula would guess that."""
    lab = np.zeros((2, 2, 2, 2, 3), np.uint8)  # axes c, m, y, k; L from 0 to 255, a and b around 128
    lab[..., 0], lab[..., 1:] = 255, 128  # paper
    lab[1, ..., :] = [136, 208, 195]  # sRGB red
    lab[0, 0, 0, 1] = [137, 128, 128]  # sRGB 128
    lab[1, 1, 1, 1] = [0, 128, 128]  # all inks: black, so that black point compensation has nothing to do
    identity = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    profile = _icc(b"CMYK", b"Lab ", b"prtr", {b"A2B0": table + identity * 4 + lab.tobytes() + identity * 3})
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    decoded = decode(_file(Image.fromarray(inks, "CMYK"), "TIFF", icc_profile=profile))
    assert np.abs(decoded[0].astype(int) - [[255] * 4, [253, 0, 0, 255], [128, 128, 128, 255]]).max() <= 8


def test_an_srgb_profile_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    samples = _noise(3)
    with caplog.at_level(logging.INFO, "omnialpha"):
        decoded = decode(_file(Image.fromarray(samples), "PNG", icc_profile=_profile("srgb")))
    np.testing.assert_array_equal(decoded, _rgba(samples))
    assert caplog.messages == []


@pytest.mark.parametrize("profile", [b"not a profile", _profile("swapped")[:200]])
def test_a_damaged_profile_is_reported_and_ignored(profile: bytes, caplog: pytest.LogCaptureFixture) -> None:
    samples = _noise(3)
    np.testing.assert_array_equal(decode(_file(Image.fromarray(samples), "PNG", icc_profile=profile)), _rgba(samples))
    assert "colours are taken as sRGB" in caplog.text


def test_a_profile_of_another_kind_of_colour_is_reported_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    profile = _profile("swapped")
    profile = profile[:16] + b"GRAY" + profile[20:]
    samples = _noise(3)
    np.testing.assert_array_equal(decode(_file(Image.fromarray(samples), "PNG", icc_profile=profile)), _rgba(samples))
    assert "is for GRAY, not for RGB; ignored" in caplog.text


def test_cmyk_jpeg(caplog: pytest.LogCaptureFixture) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = decode(_file(image, "JPEG", quality=100))
    assert np.abs(decoded[0, 0].astype(int) - [255, 0, 0, 255]).max() <= 3
    assert "CMYK without a colour profile" in caplog.text


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_are_refused_single_frames_are_not(format: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    with pytest.raises(ImageError, match=r"^picture\..*: has several frames or pages; save the one you want"):
        decode(_file(frames[0], format, save_all=True, append_images=frames[1:]))
    decoded = decode(_file(frames[0], format, save_all=True, lossless=True))
    assert decoded[0, 0].tolist() == [255, 0, 0, 255]


def test_the_preview_inside_a_phones_jpeg_is_no_second_page() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    decoded = decode(_file(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert np.abs(decoded[0, 0].astype(int) - [254, 0, 0, 255]).max() <= 2


def _header_only(width: int, height: int) -> io.BytesIO:
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0x35AF061E))


@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 1, 100_000, 200_000, 2_000_000])
def test_too_many_pixels_are_refused_before_decoding(width: int, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(ImageError, match="more than the 67 million.*; make it smaller first"):
        decode(_header_only(width, 1000))
    assert not recwarn.list


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_pictures_without_pixels_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError):
        decode(_header_only(*size))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(format: str, tmp_path: Path) -> None:
    whole = _file(Image.fromarray(_noise(3)), format).getvalue()
    path = tmp_path / "cut.bin"
    for share in (0.9, 0.5, 0.1):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ImageError, match="^[^\n]*cut.bin: [^\n]*$"):
            decode(path)


@pytest.mark.parametrize("content", [b"hello", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"<svg/>"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="is not a readable PNG, JPEG, WebP, AVIF, TIFF or BMP picture; check"):
        decode(path)


def test_damaged_exif_costs_the_orientation_only(caplog: pytest.LogCaptureFixture) -> None:
    samples = _noise(3)
    decoded = decode(_png(2, samples, (b"eXIf", b"no TIFF header")))
    np.testing.assert_array_equal(decoded, _rgba(samples))
    assert "EXIF data is damaged" in caplog.text


def test_unusual_sample_types_are_refused() -> None:
    with pytest.raises(ImageError, match='the colour mode "F"; save it as 8 or 16 bit'):
        decode(_file(Image.new("F", (3, 3)), "TIFF"))


def test_tiff_orientation_tag() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[274] = 8
    samples = _noise(3)
    decoded = decode(_file(Image.fromarray(samples), "TIFF", tiffinfo=tags))
    np.testing.assert_array_equal(decoded, np.rot90(_rgba(samples)))
