"""What makes a pasted object look as if it stood there: the scene's light on it, and its shadow on the ground.

Pure functions on arrays: pictures are ``float32`` in [0, 1], ``(H, W, C)``, straight alpha. Nothing here measures a
scene's real light or geometry; the bounds are chosen so that a wrong guess is small.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709
EXPOSURE = (0.72, 1.25)  # bounds of the gain on brightness
CAST = (0.9, 1.1)  # bounds of each colour's gain
CAST_SHARE = 0.35  # how much of a scene's colour is taken for that of its light
HAZE = 0.06  # most that the darkest parts are lifted
SURROUNDINGS = 0.25  # of the object's longer side: how far around it the scene is looked at

REACH = 0.15  # of the object's height above its foot: what hangs that high does not touch the ground
FADE = 0.45  # darkness that is left at a shadow's far end


@dataclass(frozen=True, kw_only=True)
class Light:
    """The light of a scene, as far as shadows show it; the same for all its objects.

    Attributes:
        lean: How far to the right the shadow of a point falls, per height above the ground.
        depth: How far back it falls, as it appears in the picture, per height; above 0.
        opacity: Darkness of the shadow that is thrown, in [0, 1].
        contact: Darkness right where the object touches the ground, in [0, 1].
        softness: Blur of a shadow's far end, per height of the object.
    """

    lean: float
    depth: float
    opacity: float
    contact: float
    softness: float


def draw_light(rng: np.random.Generator) -> Light:
    """Draw a light, from low evening sun to an overcast sky."""
    return Light(
        lean=float(rng.uniform(-0.7, 0.7)),
        depth=float(rng.uniform(0.1, 0.3)),
        opacity=float(rng.uniform(0.2, 0.6)),
        contact=float(rng.uniform(0.45, 0.75)),
        softness=float(rng.uniform(0.015, 0.05)),
    )


def match_light(foreground: np.ndarray, backdrop: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Bring brightness, colour cast and haze of an object nearer to those of the scene around it.

    Gains are bounded by `EXPOSURE` and `CAST` and the lift of dark parts by `HAZE`: the object stays what it is.

    Args:
        foreground: ``(H, W, 4)``, the object on the scene's canvas.
        backdrop: ``(H, W, 3)`` or more channels, the scene.
        strength: From 0, nothing, to 1.

    Returns:
        ``(H, W, 4)`` with the same alpha; colours are 0 where alpha is 0.
    """
    alpha = foreground[..., 3:]
    around = _surroundings(alpha[..., 0])
    weight = float(alpha.sum())
    if around is None or weight == 0:
        return foreground
    scene = backdrop[around][..., :3].reshape(-1, 3)
    scene_mean, object_mean = scene.mean(axis=0), (foreground[..., :3] * alpha).sum(axis=(0, 1)) / weight
    scene_luma, object_luma = float(scene_mean @ LUMA), float(object_mean @ LUMA)
    gain = np.clip(((scene_luma + 0.1) / (object_luma + 0.1)) ** (0.5 * strength), *EXPOSURE)
    cast = np.clip(((scene_mean + 0.1) / (scene_luma + 0.1)) ** (CAST_SHARE * strength), *CAST)
    haze = strength * min(HAZE, 0.5 * float(np.percentile(scene @ LUMA, 5)))
    lit = np.clip(foreground[..., :3] * (gain * cast) * (1 - haze) + haze, 0, 1) * (alpha > 0)
    return np.concatenate([lit, alpha], axis=-1).astype(np.float32)


def contact_shadow(alpha: np.ndarray, light: Light) -> np.ndarray:
    """The shadow of an upright object on level ground: thrown, and dark where the object touches.

    The thrown part is the object's outline laid flat, softer and fainter the farther from its foot. The contact part is
    a blurred line under everything that reaches down to the lowest `REACH` of the object.

    Args:
        alpha: ``(H, W)``, of the object; its lowest row is where the ground is.
        light: Of the scene.

    Returns:
        ``(H, W)`` darkness in [0, 1]: multiply the scene by one minus it before the object is laid over.
    """
    solid = alpha > 0.5 * alpha.max()
    rows = np.flatnonzero(solid.any(axis=1))
    if not rows.size:
        return np.zeros_like(alpha)
    top, foot = int(rows[0]), int(rows[-1])
    height = foot - top + 1
    thrown = light.opacity * _thrown(alpha, foot, height, light)
    touching = light.contact * _touching(solid, foot, height)
    return (1 - (1 - thrown) * (1 - touching)).astype(np.float32)


def shaded(picture: np.ndarray, darkness: np.ndarray) -> np.ndarray:
    """Darken the colours of a picture ``(H, W, 3 or 4)`` by a shadow ``(H, W)``."""
    result = picture.copy()
    result[..., :3] *= 1 - darkness[..., None]
    return result


def _surroundings(alpha: np.ndarray) -> tuple[slice, slice] | None:
    """The rectangle around an object in which the scene is looked at; None where there is no object."""
    rows, columns = (np.flatnonzero((alpha > 0.05).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    margin = round(SURROUNDINGS * max(np.ptp(rows), np.ptp(columns)) + 1)
    first, second = (slice(max(0, int(at[0]) - margin), int(at[-1]) + 1 + margin) for at in (rows, columns))
    return first, second


def _thrown(alpha: np.ndarray, foot: int, height: int, light: Light) -> np.ndarray:
    """The outline laid flat: a point at height h above the foot goes to (x + lean · h, foot − depth · h)."""
    matrix = np.array([[1 / light.depth, 0], [light.lean / light.depth, 1]])
    offset = foot - foot / light.depth, -light.lean * foot / light.depth
    flat = ndimage.affine_transform(alpha.astype(np.float32), matrix, offset, order=1)
    crisp, soft = (ndimage.gaussian_filter(flat, max(0.6, share * height)) for share in (0.006, light.softness))
    distance = np.arange(alpha.shape[0], dtype=np.float32)[:, None]
    distance = np.clip((foot - distance) / max(1.0, light.depth * height), 0, 1)  # 0 at the foot, 1 at the far end
    blend = np.sqrt(distance)
    return np.clip((crisp * (1 - blend) + soft * blend) * (1 - (1 - FADE) * distance), 0, 1)


def _touching(solid: np.ndarray, foot: int, height: int) -> np.ndarray:
    """A blurred line under the lowest pixels of each column, strongest where these are on the ground."""
    columns = np.flatnonzero(solid.any(axis=0))
    lowest = solid.shape[0] - 1 - solid[::-1].argmax(axis=0)[columns]
    line = np.zeros(solid.shape, np.float32)
    line[lowest, columns] = np.clip(1 - (foot - lowest) / max(1.0, REACH * height), 0, 1)
    across, along = max(0.8, 0.014 * height), max(1.0, 0.03 * height)
    # A line of height 1 would be as faint as it is blurred: bring its middle back to 1.
    return np.clip(ndimage.gaussian_filter(line, (across, along)) * across * np.sqrt(2 * np.pi), 0, 1)
