"""The GRAD metric's filter: Gaussian-derivative magnitudes of two mattes, compared block by block.

Both kernels are separable. A one-dimensional filter over a block of samples is a product with a small banded matrix,
which BLAS carries out several times faster than a loop over taps.

Single precision is enough because nothing cancels: a derivative is a positive kernel over differences of neighbours,
which are taken in double precision; and with s = p + g and d = p − g,
|∇p| − |∇g| = 2·∇s·∇d / (|∇s + ∇d| + |∇s − ∇d|).
"""

import numpy as np

BLOCK = 32  # samples per product: more wastes work on zeros of the band, less wastes calls
SIGMA = 1.4  # of both conventions


def derivative_taps(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Sampled Gaussian (sum 1) and its derivative.

    Args:
        radius: Samples on either side of the centre.

    Returns:
        Smoothing and derivative taps, both ``(2·radius + 1,)``.
    """
    x = np.arange(-radius, radius + 1)
    gauss = np.exp(-(x**2) / (2 * SIGMA**2))
    gauss /= gauss.sum()
    return gauss, gauss * x / SIGMA**2


def squared_difference(
    pred: np.ndarray, target: np.ndarray, taps: tuple[np.ndarray, np.ndarray], border: str, region: np.ndarray | None
) -> float:
    """Σ (|∇p| − |∇g|)² over a region.

    Args:
        pred: ``(H, W)`` ``float64``.
        target: ``(H, W)`` ``float64``.
        taps: Smoothing and derivative taps of one odd length.
        border: How ``numpy.pad`` extends the mattes.
        region: ``(H, W)`` ``bool``; None for all.

    Returns:
        The sum.
    """
    height, width = pred.shape
    radius = len(taps[0]) // 2
    fill = -width % BLOCK  # to a whole number of blocks; no region reaches there
    total, delta = (_padded(image, radius, fill, border) for image in (pred + target, pred - target))
    inside = np.zeros((height, width + fill), np.float32)
    inside[:, :width] = 1 if region is None else region
    smooth = _band(taps[0])
    steps = _band(np.cumsum(taps[1])[:-1])  # differences of neighbours correlated with these are the derivative

    result = 0.0
    for top in range(0, height, BLOCK):
        rows = min(BLOCK, height - top)
        block = slice(top, top + rows + 2 * radius)
        difference = _difference(_gradient(total[block], smooth, steps), _gradient(delta[block], smooth, steps))
        difference *= inside[top : top + rows].reshape(rows, -1, BLOCK).swapaxes(0, 1)
        result += float(np.vdot(difference, difference))
    return result


def _padded(image: np.ndarray, radius: int, fill: int, border: str) -> np.ndarray:
    """Extended by the filter's radius on all sides, and by zeros on the right."""
    padded = np.pad(image, radius, mode=border)  # type: ignore[call-overload]
    return np.pad(padded, ((0, 0), (0, fill)))


def _band(taps: np.ndarray) -> np.ndarray:
    """``(BLOCK, BLOCK + len(taps) − 1)`` matrix whose product with samples is their correlation with the taps."""
    band = np.zeros((BLOCK, BLOCK + len(taps) - 1), np.float32)
    for row in range(BLOCK):
        band[row, row : row + len(taps)] = taps
    return band


def _gradient(block: np.ndarray, smooth: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both derivatives of some rows: ``(rows + 2·radius, W + 2·radius)`` to two ``(W / BLOCK, rows, BLOCK)``."""
    rows = block.shape[0] - smooth.shape[1] + BLOCK
    across = (block[:, 1:] - block[:, :-1]).astype(np.float32)
    down = (block[1:] - block[:-1]).astype(np.float32)
    return (
        _filtered(smooth[:rows, : block.shape[0]] @ across, steps),
        _filtered(steps[:rows, : block.shape[0] - 1] @ down, smooth),
    )


def _filtered(block: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Filter along rows, ``(rows, W + taps − 1)`` to ``(W / BLOCK, rows, BLOCK)``."""
    windows = np.lib.stride_tricks.sliding_window_view(block, band.shape[1], axis=1)[:, ::BLOCK]
    result: np.ndarray = windows.swapaxes(0, 1) @ band.T
    return result


def _difference(total: tuple[np.ndarray, np.ndarray], delta: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """|∇p| − |∇g| from ∇(p + g) and ∇(p − g)."""
    (sx, sy), (dx, dy) = total, delta
    product = 2 * (sx * dx + sy * dy)
    # numpy.hypot guards against overflow, which cannot occur here, at five times the cost.
    magnitudes = np.sqrt((sx + dx) ** 2 + (sy + dy) ** 2) + np.sqrt((sx - dx) ** 2 + (sy - dy) ** 2)
    # Where both gradients vanish, so does their difference.
    return np.divide(product, magnitudes, out=np.zeros_like(product), where=magnitudes > 0)
