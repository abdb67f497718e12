"""Soft transparency, synthesised: glass made of opaque cut-outs, and smoke made of noise.

Free cut-outs are nearly all opaque inside, and what is trained on them alone never learns that alpha can be a half.
Nothing here is a photograph of glass or smoke: the names of the results say "synthetic".
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from omnialpha.data.scenes import Cutout, as_cutout
from omnialpha.imaging.rgba import to_array, to_pil

BODY = (0.15, 0.45)  # opacity of glass that is looked through straight on
RIM = 0.9  # and at its edge, where it is looked through sideways
RIM_WIDTH = 0.03  # how fast the one becomes the other, as a share of the object's longer side
DENSEST = (0.5, 0.95)  # opacity of the densest part of smoke
OCTAVES = 5


def glass(cutout: Cutout, rng: np.random.Generator) -> Cutout:
    """Make an object transparent inside, as if blown from coloured glass: its rim and its highlights stay.

    Args:
        cutout: Any; its name and weight are kept, with a word on what was done.
        rng: Source of the opacity.

    Returns:
        The new cut-out; its caption says that it is of glass.
    """
    picture = to_array(cutout.image.convert("RGBA"))
    alpha = picture[..., 3]
    body = float(rng.uniform(*BODY))
    # Padded, or a cut-out that touches its own border would have no rim there.
    depth = ndimage.distance_transform_edt(np.pad(alpha > 0.5, 1))[1:-1, 1:-1]
    rim = np.exp(-depth / (RIM_WIDTH * max(alpha.shape)))
    highlight = np.clip((picture[..., :3].min(axis=-1) - 0.75) / 0.25, 0, 1) ** 2
    alpha = alpha * (body + (RIM - body) * np.maximum(rim, highlight))
    image = to_pil(np.dstack([picture[..., :3], alpha]))
    caption = f"{cutout.caption.rstrip('.')} made of glass"
    return as_cutout(image, caption=caption, name=f"{cutout.name} (synthetic glass)", weight=cutout.weight)


def smoke(rng: np.random.Generator, side: int) -> Cutout:
    """Make a wisp of smoke: fractal noise that thins out to all sides.

    Args:
        rng: Source of shape, density and shade.
        side: Width and height, pixels.

    Returns:
        A cut-out that is nowhere fully opaque.
    """
    noise = np.zeros((side, side), np.float32)
    for octave in range(OCTAVES):
        blur = side / (5 * 2**octave)
        layer = ndimage.gaussian_filter(rng.standard_normal((side, side)).astype(np.float32), blur, mode="wrap")
        noise += layer / layer.std() * 0.6**octave
    noise = (noise - np.median(noise)) / noise.std()
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    narrow = rng.uniform(1.3, 2.4)
    envelope = np.clip(1 - np.hypot(x * narrow + 0.15 * noise, y), 0, 1) ** 1.1
    density = np.clip(0.6 + 0.3 * noise, 0.05, 1) * envelope
    # By a quantile: the one densest pixel says little about the whole.
    density = np.clip(density / max(float(np.quantile(density[density > 0], 0.95)), 1e-6), 0, 1)
    alpha = float(rng.uniform(*DENSEST)) * density
    shade = float(rng.uniform(0.55, 0.95))
    grey = np.clip(shade + 0.06 * noise, 0, 1)
    image = to_pil(np.dstack([grey, grey, grey, alpha]))
    word = "white" if shade > 0.75 else "grey"
    return as_cutout(_trimmed(image), caption=f"a wisp of {word} smoke", name="synthetic smoke")


def _trimmed(image: Image.Image) -> Image.Image:
    return image.crop(image.getchannel("A").getbbox())
