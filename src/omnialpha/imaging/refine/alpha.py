"""Alpha at full resolution from alpha at the model's: closed-form matting that keeps what the model said.

The model's alpha p holds one value per working pixel: the mean of the true alpha over a block of the original. So the
full alpha is sought among those whose block means D α agree with p and that follow the colours of the original, with
K what is known for certain (κ weighs it):

    minimise  αᵀLα / |ω|  +  μ·‖Dα − p‖²  +  κ·Σ_{i∈K} (α_i − k_i)²

L is the matting Laplacian (`local_linear`). The normal equations, (1 − G)α + μDᵀDα + κ1_K α = μDᵀp + κ1_K k with the
guided filter G, are solved by conjugate gradients from coarse to fine; the last level, at most about a megapixel, is
carried to the original's size by its local linear models (He and Sun, "Fast Guided Filter", 2015). Of what this adds to
a trusted alpha, what the picture confirms is kept (`evidence`). An alpha of few pixels is asked for the regions of the
picture that it meant (`regions`): where it is not trusted, or they explain the picture better than it does, they are K.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.sparse.linalg import LinearOperator, cg

from omnialpha.imaging.refine.evidence import confirmed
from omnialpha.imaging.refine.local_linear import LocalLinear, applied
from omnialpha.imaging.refine.planes import Size, resized_plane, strips
from omnialpha.imaging.refine.regions import AREA, decided, regions

CERTAIN = 10.0  # κ, against 1 for a pixel that differs fully from its windows' answer
TRUST_RANGE = (1e-3, 1.0)  # of μ
TRUSTED, DOUBTED = 0.6, 0.95  # what is left of a right and of a wrong alpha, against the same alpha moved
MOVED = 3  # working pixels
BELIEVED = 0.5  # μ from which on the raw alpha may be right but for its size; below, it tells where the object is
BETTER = 0.8  # what a better alpha leaves unexplained, against a worse one
SURE = 0.1  # the model is sure where it and its neighbours are this close to 0 or 1
SOLVED_AREA = 1.5e6  # pixels of the finest level that is solved
ITERATIONS = 12
RADIUS, EPSILON = 2, 1e-5  # windows of the equations
GUIDED_EPSILON = 1e-6  # with both sides known, if the picture has no noise: finer contours, slower to settle
GUIDED_MOST, GUIDED_WORK = 200, 8e6  # then: iterations at the most, and pixels × iterations, as coarse levels are cheap
UPSAMPLING_RADIUS, UPSAMPLING_EPSILON = 2, 1e-5  # windows of the last step
SNAP = 0.02  # what is this close to 0 or 1 becomes 0 or 1: a veil over the whole picture is no alpha


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a guide says for certain, at the original's size.

    Attributes:
        mask: ``(H, W)`` booleans: where alpha is known.
        value: ``(H, W)`` ``float32``: what it is there.
    """

    mask: np.ndarray
    value: np.ndarray

    @property
    def has_both_sides(self) -> bool:
        """Whether both some foreground and some background are known."""
        values = self.value[self.mask]
        return bool(values.size and values.min() == 0 and values.max() == 1)


def full_alpha(image: np.ndarray, raw: np.ndarray, known: Known | None = None) -> np.ndarray:
    """Alpha at the original's size.

    Args:
        image: ``(H, W, 3)`` ``uint8``, the original.
        raw: ``(h, w)`` floats in [0, 1], the model's alpha at its working size, not larger than the original.
        known: What a guide says.

    Returns:
        ``(H, W)`` ``float32`` in [0, 1].
    """
    raw = np.ascontiguousarray(raw, np.float32)
    if known is not None and known.mask.all():
        return known.value.astype(np.float32)
    original = Image.fromarray(image)
    work = raw.shape[1], raw.shape[0]
    small = _shrunk_image(original, work)
    believed = trust(small, raw)
    if raw.size < AREA and not (known is not None and known.has_both_sides):
        outside = None if known is None else known.mask & (known.value == 0)
        answer = regions(image, raw, outside)
        shrunk_answer = resized_plane(answer, work, Image.Resampling.BOX)
        if believed <= BELIEVED or unexplained(small, shrunk_answer) < BETTER * unexplained(small, raw):
            known = _with_regions(answer, original.size, known)
    if known is not None and known.has_both_sides:
        believed = 0.0  # then the colours decide better than the model
    alpha = raw
    for size in _levels(work, original.size):
        small = _shrunk_image(original, size)
        level = _Level(small, raw, None if known is None else _shrunk(known, size), believed)
        alpha = level.solve(resized_plane(alpha, size, Image.Resampling.BICUBIC).clip(0, 1))
    coefficients = LocalLinear(small, UPSAMPLING_RADIUS, UPSAMPLING_EPSILON).fit(alpha)
    result = np.empty(image.shape[:2], np.float32)
    for top, bottom, rows in strips(result.shape, alpha.shape):
        shape = image.shape[1], bottom - top
        planes = [resized_plane(plane, shape, Image.Resampling.BILINEAR, rows) for plane in coefficients]
        channels = [image[top:bottom, :, k] / np.float32(255) for k in range(3)]
        strip = applied(planes, channels)
        result[top:bottom] = ((strip - SNAP) / (1 - 2 * SNAP)).clip(0, 1)
    if believed > BELIEVED:
        result = confirmed(image, raw, result)
    if known is not None:
        result = np.where(known.mask, known.value, result)
    return result


def _with_regions(answer: np.ndarray, size: Size, known: Known | None) -> Known | None:
    """What is known, and what `regions` answered; without that if it is all foreground or all background."""
    front, back = decided(answer, size)
    if known is not None:
        front, back = (np.where(known.mask, known.value == k, plane) for k, plane in ((1, front), (0, back)))
    if not (front.any() and back.any()):
        return known
    return Known(mask=front | back, value=front.astype(np.float32))


def _levels(work: Size, full: Size) -> list[Size]:
    """Whole multiples of the working size, each twice the last, so that a working pixel is a block of every level."""
    factor, levels = 1, [work]
    while (
        work[0] * work[1] * (2 * factor) ** 2 <= SOLVED_AREA
        and 2 * factor * work[0] <= full[0]
        and 2 * factor * work[1] <= full[1]
    ):
        factor *= 2
        levels.append((work[0] * factor, work[1] * factor))
    return levels[1:] or levels  # at the working size itself there is nothing to find out


def _shrunk_image(image: Image.Image, size: Size) -> np.ndarray:
    return np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / 255


def _shrunk(known: Known, size: Size) -> Known:
    """What is known of whole pixels of a smaller size."""
    mask = resized_plane(known.mask.astype(np.float32), size, Image.Resampling.BOX) > 0.999
    return Known(mask=mask, value=resized_plane(known.value, size, Image.Resampling.BOX))


class _Level:
    """The equations at one size.

    Args:
        image: ``(H, W, 3)`` ``float32``.
        raw: ``(h, w)``, H and W whole multiples of it.
        known: At this size; where None, what the model is sure of.
        trust: μ; 0 where both sides are known, which leaves the rest to the colours.
    """

    def __init__(self, image: np.ndarray, raw: np.ndarray, known: Known | None, trust: float) -> None:
        self._guided = trust == 0
        # In single precision covariances are too rough for the smaller ε.
        self._model = (
            LocalLinear(image.astype(np.float64), RADIUS, float(np.clip(noise(image), GUIDED_EPSILON, EPSILON)))
            if self._guided
            else LocalLinear(image, RADIUS, EPSILON)
        )
        self._shape, self._block = image.shape[:2], image.shape[0] // raw.shape[0]
        if known is None:
            known = Known(mask=self._spread(_sure(raw)), value=self._spread(raw > 0.5).astype(np.float32))
        self._trust = np.float32(trust) * (self._means(known.mask) < 1)
        self._certain = CERTAIN * known.mask.astype(np.float32)
        self._right = self._certain * known.value + self._spread(self._trust * raw)

    def solve(self, start: np.ndarray) -> np.ndarray:
        """Alpha ``(H, W)`` in [0, 1], from a first guess."""
        size = start.size
        diagonal = (1 + self._certain).ravel()
        operator = LinearOperator((size, size), self._left, dtype=np.float32)
        preconditioner = LinearOperator((size, size), lambda x: x.ravel() / diagonal, dtype=np.float32)
        iterations = int(np.clip(GUIDED_WORK / size, ITERATIONS, GUIDED_MOST)) if self._guided else ITERATIONS
        solution, _ = cg(operator, self._right.ravel(), start.ravel(), rtol=1e-4, maxiter=iterations, M=preconditioner)
        return solution.reshape(self._shape).astype(np.float32).clip(0, 1)

    def _left(self, x: np.ndarray) -> np.ndarray:
        alpha = x.reshape(self._shape)
        result = alpha - self._model.filter(alpha)
        result += self._certain * alpha
        result += self._spread(self._trust * self._means(alpha))
        return result.ravel()

    def _means(self, plane: np.ndarray) -> np.ndarray:
        """D: means over blocks."""
        height, width = (side // self._block for side in self._shape)
        return plane.reshape(height, self._block, width, self._block).mean(axis=(1, 3), dtype=np.float32)

    def _spread(self, plane: np.ndarray) -> np.ndarray:
        """Dᵀ, in units in which D Dᵀ = 1: every value to all pixels of its block."""
        return plane.repeat(self._block, axis=0).repeat(self._block, axis=1)


def trust(image: np.ndarray, raw: np.ndarray) -> float:
    """How far the model's alpha is to be believed: μ.

    Contours of a right alpha lie on contours of the picture, so local linear models of the picture at the working size
    explain it better than the same alpha moved by a few pixels. The ratio of what they leave of either was 0.1 to 0.6,
    rarely 0.8, for true alphas of 64² and 512² pixels and for hair, and 0.5 to 1, mostly 0.8 to 1, for the outlines of
    the embedded checkpoint. μ falls geometrically from 1 to its least between TRUSTED and DOUBTED.

    Args:
        image: ``(h, w, 3)`` ``float32`` in [0, 1], the original at the working size.
        raw: ``(h, w)`` ``float32`` in [0, 1].
    """
    least, most = TRUST_RANGE
    unsure = ~_sure(raw)
    if not unsure.any():
        return most
    model = LocalLinear(image, radius=1, epsilon=1e-3)

    def left(rows: int, columns: int) -> float:
        """What is left of alpha, moved by so many pixels."""
        moved, where = (np.roll(plane, (rows, columns), (0, 1)) for plane in (raw, unsure))
        return float(np.sqrt(np.mean((moved - model.filter(moved))[where] ** 2)))

    elsewhere = (left(MOVED, 0) + left(-MOVED, 0) + left(0, MOVED) + left(0, -MOVED)) / 4
    doubt = np.clip((left(0, 0) / max(elsewhere, 1e-6) - TRUSTED) / (DOUBTED - TRUSTED), 0, 1)
    return float(most * (least / most) ** doubt)


def unexplained(image: np.ndarray, alpha: np.ndarray) -> float:
    """What local linear models of a picture leave of an alpha: root of the mean square.

    Args:
        image: ``(h, w, 3)`` ``float32`` in [0, 1].
        alpha: ``(h, w)`` ``float32`` in [0, 1].
    """
    return float(np.sqrt(np.mean((alpha - LocalLinear(image, 1, EPSILON).filter(alpha)) ** 2)))


def noise(image: np.ndarray) -> float:
    """Variance of a picture's noise, by the median of second differences both ways (after Immerkær, 1996).

    Args:
        image: ``(H, W, 3)`` ``float32`` in [0, 1].
    """
    across = image[:, :-2] - 2 * image[:, 1:-1] + image[:, 2:]
    both = across[:-2] - 2 * across[1:-1] + across[2:]  # 36 times the variance
    return float((np.median(np.abs(both)) / 0.6745) ** 2 / 36) if both.size else 0.0


def _sure(raw: np.ndarray) -> np.ndarray:
    """Where the model and its neighbourhood are sure: booleans."""
    sure: np.ndarray = (maximum_filter(raw, 3) < SURE) | (minimum_filter(raw, 3) > 1 - SURE)
    return sure
