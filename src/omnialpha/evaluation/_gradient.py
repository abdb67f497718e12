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
    spans: tuple[float, float],
    taps: tuple[np.ndarray, np.ndarray],
    border: str,
    region: np.ndarray | None,
) -> float:
    """Σ (|∇p| − |∇g|)² over a region.

    Args:
        pred: ``(H, W)`` ``uint8`` or ``float64``.
        target: Likewise.
        spans: What to divide the prediction and the target by.
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
        blocks = pred[block], target[block]
        uneven = np.flatnonzero(_uneven(blocks[0], radius) | _uneven(blocks[1], radius))
        if not len(uneven):
            continue
        p, g = (_steps(_windows(matte, radius)[uneven], span) for matte, span in zip(blocks, spans, strict=True))
        total = _gradient(p[0] + g[0], p[1] + g[1], smooth, steps)
        delta = _gradient(p[0] - g[0], p[1] - g[1], smooth, steps)
        difference = _difference(total, delta)
        if region is not None:
            inside[:rows, :width] = region[top : top + rows]
        difference *= _windows(inside[:rows], 0)[uneven]
        result += float(np.vdot(difference, difference))
    return result


def _windows(block: np.ndarray, radius: int) -> np.ndarray:
    """Overlapping squares of some rows: ``(rows, W + 2·radius)`` to a view ``(W / BLOCK, rows, BLOCK + 2·radius)``."""
    rows, width = block.shape
    shape = ((width - 2 * radius) // BLOCK, rows, BLOCK + 2 * radius)
    row, column = block.strides
    # sliding_window_view would do, at several times the cost.
    return np.ndarray(shape, block.dtype, block, strides=(BLOCK * column, row, column))


def _uneven(block: np.ndarray, radius: int) -> np.ndarray:
    """Which windows hold more than one value, ``(W / BLOCK,)``: over the others no gradient needs to be taken."""
    low, high = (_windows(extreme[None], radius)[:, 0] for extreme in (block.min(axis=0), block.max(axis=0)))
    result: np.ndarray = low.min(axis=1) != high.max(axis=1)
    return result


def _band(taps: np.ndarray) -> np.ndarray:
    """``(BLOCK, BLOCK + len(taps) − 1)`` matrix whose product with samples is their correlation with the taps."""
    band = np.zeros((BLOCK, BLOCK + len(taps) - 1), np.float32)
    for row in range(BLOCK):
        band[row, row : row + len(taps)] = taps
    return band


def _steps(windows: np.ndarray, span: float) -> tuple[np.ndarray, np.ndarray]:
    """Differences of neighbours along rows and along columns, as shares of ``span``, ``float32``."""
    if windows.dtype == np.uint8:
        windows = windows.astype(np.float32)  # differences of bytes are exact in single precision
    across, down = windows[..., 1:] - windows[..., :-1], windows[:, 1:] - windows[:, :-1]
    # In place and before the cast: a matte may span less than single precision can hold.
    across /= span
    down /= span
    return across.astype(np.float32, copy=False), down.astype(np.float32, copy=False)


def _gradient(
    across: np.ndarray, down: np.ndarray, smooth: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both derivatives of windows from the differences of neighbours, two ``(windows, rows, BLOCK)``."""
    rows = across.shape[1] - smooth.shape[1] + BLOCK
    return (
        smooth[:rows, : across.shape[1]] @ across @ steps.T,
        steps[:rows, : down.shape[1]] @ down @ smooth.T,
    )


def _difference(total: tuple[np.ndarray, np.ndarray], delta: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """|∇p| − |∇g| from ∇(p + g) and ∇(p − g)."""
    (sx, sy), (dx, dy) = total, delta
    product = 2 * (sx * dx + sy * dy)
    # numpy.hypot guards against overflow, which cannot occur here, at five times the cost.
    magnitudes = np.sqrt((sx + dx) ** 2 + (sy + dy) ** 2) + np.sqrt((sx - dx) ** 2 + (sy - dy) ** 2)
    # Where both gradients vanish, so does their difference.
    return np.divide(product, magnitudes, out=np.zeros_like(product), where=magnitudes > 0)
