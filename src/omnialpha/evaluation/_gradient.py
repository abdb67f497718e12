"""The GRAD metric's filter: Gaussian-derivative magnitudes of two mattes, compared block by block.

Both kernels are separable. A one-dimensional filter over a block of samples is a product with a small banded matrix,
which BLAS carries out several times faster than a loop over taps.

Single precision is enough because nothing cancels: a derivative is a positive kernel over differences of neighbours,
which are exact for bytes and taken in double precision otherwise; and with s = p + g and d = p − g,
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
    pred: np.ndarray,
    target: np.ndarray,
    scales: tuple[float, float],
    taps: tuple[np.ndarray, np.ndarray],
    border: str,
    region: np.ndarray | None,
) -> float:
    """Σ (|∇p| − |∇g|)² over a region.

    Args:
        pred: ``(H, W)`` ``uint8`` or ``float64``.
        target: Likewise.
        scales: What to multiply the prediction and the target by.
        taps: Smoothing and derivative taps of one odd length.
        border: How ``numpy.pad`` extends the mattes.
        region: ``(H, W)`` ``bool``; None for all.

    Returns:
        The sum.
    """
    height, width = pred.shape
    radius = len(taps[0]) // 2
    fill = -width % BLOCK  # to a whole number of blocks; no region reaches there
    margins = ((radius, radius), (radius, radius + fill))
    pred, target = (np.pad(matte, margins, mode=border) for matte in (pred, target))  # type: ignore[call-overload]
    inside = np.zeros((BLOCK, width + fill), np.float32)
    inside[:, :width] = 1
    smooth = _band(taps[0])
    steps = _band(np.cumsum(taps[1])[:-1])  # differences of neighbours correlated with these are the derivative

    result = 0.0
    for top in range(0, height, BLOCK):  # a block of rows stays in the processor's cache through all that follows
        rows = min(BLOCK, height - top)
        block = slice(top, top + rows + 2 * radius)
        p, g = (_steps(matte[block], scale) for matte, scale in zip((pred, target), scales, strict=True))
        total = _gradient(p[0] + g[0], p[1] + g[1], smooth, steps)
        delta = _gradient(p[0] - g[0], p[1] - g[1], smooth, steps)
        difference = _difference(total, delta)
        if region is not None:
            inside[:rows, :width] = region[top : top + rows]
        difference *= inside[:rows].reshape(rows, -1, BLOCK).swapaxes(0, 1)
        result += float(np.vdot(difference, difference))
    return result


def _band(taps: np.ndarray) -> np.ndarray:
    """``(BLOCK, BLOCK + len(taps) − 1)`` matrix whose product with samples is their correlation with the taps."""
    band = np.zeros((BLOCK, BLOCK + len(taps) - 1), np.float32)
    for row in range(BLOCK):
        band[row, row : row + len(taps)] = taps
    return band


def _steps(matte: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Differences of neighbours along rows and along columns, ``float32``."""
    if matte.dtype == np.uint8:
        matte = matte.astype(np.float32)  # differences of bytes are exact in single precision
    across, down = ((matte[:, 1:] - matte[:, :-1]), (matte[1:] - matte[:-1]))
    factor = np.float32(scale)
    return across.astype(np.float32, copy=False) * factor, down.astype(np.float32, copy=False) * factor


def _gradient(
    across: np.ndarray, down: np.ndarray, smooth: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both derivatives of some rows from the differences of neighbours, two ``(W / BLOCK, rows, BLOCK)``."""
    rows = across.shape[0] - smooth.shape[1] + BLOCK
    return (
        _filtered(smooth[:rows, : across.shape[0]] @ across, steps),
        _filtered(steps[:rows, : down.shape[0]] @ down, smooth),
    )


def _filtered(block: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Filter along rows, ``(rows, W + taps − 1)`` to ``(W / BLOCK, rows, BLOCK)``."""
    rows, width = block.shape
    # The windows overlap; sliding_window_view would do, at several times the cost of the product.
    shape = ((width - band.shape[1]) // BLOCK + 1, rows, band.shape[1])
    windows = np.ndarray(shape, block.dtype, block, strides=(BLOCK * block.itemsize, *block.strides))
    result: np.ndarray = windows @ band.T
    return result


def _difference(total: tuple[np.ndarray, np.ndarray], delta: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """|∇p| − |∇g| from ∇(p + g) and ∇(p − g)."""
    (sx, sy), (dx, dy) = total, delta
    product = 2 * (sx * dx + sy * dy)
    # numpy.hypot guards against overflow, which cannot occur here, at five times the cost.
    magnitudes = np.sqrt((sx + dx) ** 2 + (sy + dy) ** 2) + np.sqrt((sx - dx) ** 2 + (sy - dy) ** 2)
    # Where both gradients vanish, so does their difference.
    return np.divide(product, magnitudes, out=np.zeros_like(product), where=magnitudes > 0)
