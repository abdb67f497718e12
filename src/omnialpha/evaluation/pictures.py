"""Files of targets and predictions as arrays for the metrics. Whatever is converted is noted, never silently.

Pictures are PNG, JPEG, WebP, TIFF, BMP, or NumPy arrays (``.npy``). Arrays are ``uint8``, or ``float64`` in [0, 1]
where the file has more than 8 bits. A note is a short sentence that says the same for every file with the same fate,
so that notes can be counted over a data set.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.errors import ImageError
from omnialpha.imaging.decode import decode, open_picture
from omnialpha.imaging.files import Source, explained, opened
from omnialpha.imaging.layers import LayerStack
from omnialpha.imaging.rgba import premultiply, unpremultiply

Note = Callable[[str], None]
Size = tuple[int, int]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".npy")
STACK_SUFFIXES = (".psd", ".ora")


def read_matte(file: Source, note: Note, *, kind: str) -> np.ndarray:
    """Read an alpha matte.

    A file with an alpha channel means that channel, unless it is an opaque picture of a grey matte. Of several
    channels that differ the first is the matte, as in AIM-500's masks; a prediction like that is refused.

    Args:
        file: Grey picture, picture with alpha, or ``.npy``.
        note: Receives what was converted.
        kind: "prediction" or "target", for notes and errors.

    Returns:
        ``(H, W)`` ``uint8``, or ``float64`` in [0, 1].

    Raises:
        ImageError: It cannot be read, holds NaN, or is no matte.
    """
    pixels, has_alpha = _read(file, note, kind)
    if pixels.ndim == 2:
        return pixels
    opaque = pixels.shape[2] == 3 or bool((pixels[..., 3] == pixels.dtype.type(_full(pixels))).all())
    grey = bool((pixels[..., :1] == pixels[..., 1:3]).all())
    if has_alpha and not (opaque and grey and np.ptp(pixels[..., 0]) > 0):
        return np.ascontiguousarray(pixels[..., 3])
    if has_alpha:
        note(f"{kind}: opaque picture of a grey matte, its grey is used")
    if not grey:
        if kind == "prediction":
            raise ImageError(f"{file}: is a colour picture without transparency, not a matte; save the alpha channel")
        note(f"{kind}: mask of several channels that differ, the first is used")
    return np.ascontiguousarray(pixels[..., 0])


def read_rgb(file: Source, note: Note, *, kind: str) -> np.ndarray:
    """Read an opaque picture; a translucent one is laid over white, and noted.

    Args:
        file: Picture, or ``.npy`` of ``(H, W, 3)`` or ``(H, W, 4)``.
        note: Receives what was converted.
        kind: "prediction" or "target", for notes and errors.

    Returns:
        ``(H, W, 3)`` ``uint8``, or ``float64`` in [0, 1].

    Raises:
        ImageError: It cannot be read or holds NaN.
    """
    pixels = read_rgba(file, note, kind=kind)
    if (pixels[..., 3] == pixels.dtype.type(_full(pixels))).all():
        return np.ascontiguousarray(pixels[..., :3])
    note(f"{kind}: translucent where an opaque picture was expected, laid over white")
    return over_white(pixels)


def read_rgba(file: Source, note: Note, *, kind: str) -> np.ndarray:
    """Read an RGBA picture, opaque where the file has no alpha.

    Args:
        file: Picture, or ``.npy`` of ``(H, W, 3)`` or ``(H, W, 4)``.
        note: Receives what was converted.
        kind: "prediction" or "target", for notes and errors.

    Returns:
        ``(H, W, 4)`` ``uint8``, or ``float64`` in [0, 1], straight alpha.

    Raises:
        ImageError: It cannot be read or holds NaN.
    """
    pixels, _ = _read(file, note, kind)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    if pixels.shape[2] == 3:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], _full(pixels), pixels.dtype)])
    return pixels


def read_trimap(file: Source) -> np.ndarray:
    """Read a trimap, ``(H, W)`` ``uint8``; whether its values are 0, 128 and 255 the metrics check.

    Raises:
        ImageError: It cannot be read.
    """
    return decode(file)[..., 0]


def read_layers(path: Path, note: Note, *, kind: str) -> list[np.ndarray]:
    """Read a stack of layers.

    Args:
        path: Folder of pictures whose names sort from back to front (``0000.png`` …), or a PSD or OpenRaster file.
        note: Receives what was converted.
        kind: "prediction" or "target", for notes and errors.

    Returns:
        ``(H, W, 4)`` layers of one size, back to front.

    Raises:
        ImageError: It holds no layers, one cannot be read, or they differ in size.
    """
    if path.is_dir():
        files = picture_files(path)
        if not files:
            raise ImageError(f"{path}: holds no layers; expected 0000.png, 0001.png, … from back to front")
        layers = [read_rgba(file, note, kind=kind) for file in files]
        for file, layer in zip(files, layers, strict=True):
            if layer.shape != layers[0].shape:
                raise ImageError(f"{file}: is of another size than the layer {files[0].name}; put them on one canvas")
        return layers
    stack = LayerStack.open(path)
    return [np.asarray(LayerStack([layer], stack.size).flatten()) for layer in stack]


def picture_files(folder: Path) -> list[Path]:
    """The pictures in a folder, sorted by name; hidden files and other kinds are left out."""
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))


def over_white(pixels: np.ndarray) -> np.ndarray:
    """Lay an ``(H, W, 4)`` picture over white: ``(H, W, 3)`` of the same type."""
    values = pixels / _full(pixels)
    blended = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
    return np.rint(blended * 255).astype(np.uint8) if pixels.dtype == np.uint8 else blended


def resize(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Resize a matte, picture or trimap for scoring at another size.

    Antialiased: mattes bilinear, pictures bicubic, with alpha premultiplied. Nothing is rounded to 8 bits.

    Args:
        pixels: ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``, ``uint8`` or floats in [0, 1].
        size: Width and height.

    Returns:
        The array itself when it has that size, else ``float64`` in [0, 1].
    """
    if pixels.shape[1::-1] == size:
        return pixels
    values = pixels / _full(pixels)
    if values.ndim == 2:
        return _resize_plane(values, size, Image.Resampling.BILINEAR)
    values = premultiply(values) if values.shape[2] == 4 else values
    planes = [_resize_plane(plane, size, Image.Resampling.BICUBIC) for plane in np.moveaxis(values, -1, 0)]
    resized = np.stack(planes, axis=-1)
    return np.clip(unpremultiply(resized), 0, 1) if resized.shape[2] == 4 else resized


def resize_trimap(trimap: np.ndarray, size: Size) -> np.ndarray:
    """Resize a trimap to ``size`` (width, height) by nearest neighbour, which keeps its three values."""
    return np.asarray(Image.fromarray(trimap).resize(size, Image.Resampling.NEAREST))


def _full(pixels: np.ndarray) -> int:
    return 255 if pixels.dtype == np.uint8 else 1


def _read(file: Source, note: Note, kind: str) -> tuple[np.ndarray, bool]:
    """Pixels as stored, ``uint8`` or ``float64``, and whether the file has an alpha channel."""
    if isinstance(file, Path) and file.suffix.lower() == ".npy":
        pixels = _read_array(file)
        return pixels, pixels.ndim == 3 and pixels.shape[2] == 4
    with opened(file) as (stream, name), explained(name):
        image = open_picture(stream, name)
        has_alpha = "A" in image.mode or "a" in image.mode or "transparency" in image.info
    pixels = decode(file)
    if pixels.dtype == np.uint16:
        note(f"{kind}: 16 bits per channel, kept at full precision")
        return pixels / 65535, has_alpha
    return pixels, has_alpha


def _read_array(file: Path) -> np.ndarray:
    with opened(file) as (stream, name), explained(name):
        array = np.load(stream, allow_pickle=False)
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(f"{file}: has shape {array.shape}, not (H, W), (H, W, 3) or (H, W, 4)")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"{file}: is uint8 or float in [0, 1], not {array.dtype}; divide it by its maximum")
    if not np.isfinite(array).all():
        raise ImageError(f"{file}: holds NaN or infinity; check what produced it")
    if array.min() < 0 or array.max() > 1:
        raise ImageError(f"{file}: lies in [0, 1], not [{array.min():g}, {array.max():g}]; scale it first")
    return array.astype(np.float64)


def _resize_plane(plane: np.ndarray, size: Size, method: Image.Resampling) -> np.ndarray:
    resized = Image.fromarray(plane.astype(np.float32)).resize(size, method)
    return np.clip(np.asarray(resized, np.float64), 0, 1)
