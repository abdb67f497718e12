"""Stage 10: the four masks of a foreground, which depend on nothing but its alpha."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging import masks, rgba

MASKS = ("alpha", "precise", "trimap", "rough")


def four_masks(alpha: np.ndarray) -> dict[str, Image.Image]:
    """The four masks of a foreground (Appendix B.2); the size of the trimap's disk is drawn by the alpha itself.

    Args:
        alpha: ``(H, W)`` ``uint8``.

    Returns:
        "alpha", "precise", "trimap" and "rough", each a grey picture.
    """
    digest = hashlib.sha256(repr(alpha.shape).encode() + np.ascontiguousarray(alpha).tobytes()).digest()
    trimap = masks.trimap(alpha, generator=np.random.default_rng(int.from_bytes(digest[:8])))
    found = {
        "alpha": alpha,
        "precise": masks.precise_mask(alpha),
        "trimap": trimap,
        "rough": masks.rough_mask(trimap),
    }
    return {name: Image.fromarray(mask) for name, mask in found.items()}


def write_masks(files: Iterable[Path], out: Path) -> Iterator[Path]:
    """Write the four masks of pictures as `OUT/<stem>/<mask>.png`, replacing older ones.

    Args:
        files: Cut-outs, or grey alpha mattes.
        out: Folder of the masks.

    Yields:
        The folder of each picture, when it is complete.

    Raises:
        ImageError: A picture cannot be read.
        InputError: Two pictures have the same name.
        OutputError: A mask cannot be written.
    """
    seen: dict[str, Path] = {}
    for file in files:
        if file.stem in seen:
            raise InputError(f'{file}: {seen[file.stem]} is called "{file.stem}" too; rename one, or use two folders')
        seen[file.stem] = file
        for name, mask in four_masks(np.asarray(rgba.guide_channel(rgba.read(file)))).items():
            rgba.save_png(mask, out / file.stem / f"{name}.png", overwrite=True)
        yield out / file.stem
