"""Alpha matting: SAD, MSE, MAD, GRAD and CONN, exactly as the two reference evaluators compute them.

- ``dim``: the MATLAB code of Deep Image Matting (Xu et al., CVPR 2017), after Rhemann et al. (CVPR 2009)
- ``aim``: the evaluator of AIM-500 (Li et al., IJCAI 2021)

With prediction p, target g, d = p − g, both in [0, 1], and the region Ω (the unknown part of a trimap, or all pixels):

- SAD = Σ|d| / 1000, MSE = Σd² / |Ω|, MAD = Σ|d| / |Ω|
- GRAD = Σ(|∇p| − |∇g|)² / 1000 (dim) or / 10 (aim), ∇ with Gaussian derivatives of σ = 1.4
- CONN = Σ|φ(p) − φ(g)| / 1000, φ(α) = 1 − (α − l)·[α − l ≥ 0.15], l the highest threshold up to which a pixel belongs
  to the largest component that p and g share

MSE and MAD compare across image sizes; SAD, GRAD and CONN grow with the number of pixels, so print the size with them.
Lower is better for all. `accumulate.Mean` averages per-image values over a data set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from omnialpha.errors import InputError, nearest
from omnialpha.evaluation._connectivity import connected_levels
from omnialpha.evaluation._gradient import derivative_taps, squared_difference
from omnialpha.evaluation._inputs import alpha_matte, same_shape, unit_floats, unknown_region

_STEP = 0.15  # φ ignores what exceeds l by less
_BYTES = np.arange(256) / 255
_CHUNK = 1 << 15  # pixels that stay in the processor's cache


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Where the two evaluators differ.

    Attributes:
        normalise: GRAD stretches each matte to [0, 1] first.
        taps: Smoothing and derivative taps of GRAD.
        border: How GRAD extends the mattes, as ``numpy.pad`` names it.
        grad_unit: Divisor of GRAD.
        thresholds: The eleven thresholds of CONN.
        skip_empty: CONN passes over thresholds that no pixel reaches; else every pixel leaves there.
        by_columns: Among components of one size, the first in column order counts, as MATLAB scans; else in row order.
    """

    normalise: bool
    taps: tuple[np.ndarray, np.ndarray]
    border: str
    grad_unit: float
    thresholds: np.ndarray
    skip_empty: bool
    by_columns: bool


def _unit_norm(taps: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Taps whose outer product has L2 norm 1."""
    smooth, derive = taps
    return smooth / np.linalg.norm(smooth), derive / np.linalg.norm(derive)


CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        "dim": Convention(
            normalise=True,
            taps=_unit_norm(derivative_taps(4)),  # where the Gaussian falls below 0.01
            border="edge",
            grad_unit=1000,
            thresholds=np.arange(11) / 10,
            skip_empty=False,
            by_columns=True,
        ),
        "aim": Convention(
            normalise=False,
            taps=derivative_taps(6),  # scipy's default of four σ
            border="symmetric",
            grad_unit=10,
            thresholds=np.arange(0, 1.1, 0.1),  # 0.30000000000000004, 0.6000000000000001, … on purpose
            skip_empty=True,
            by_columns=False,
        ),
    }
)
"""The conventions by name."""


def matting_metrics(
    pred: np.ndarray, target: np.ndarray, trimap: np.ndarray | None = None, convention: str = "dim"
) -> dict[str, float]:
    """All five metrics of one matte.

    MAD is not part of ``dim``, and ``aim`` gives GRAD and CONN of the whole image only; here they follow the same
    formulas everywhere.

    Args:
        pred: Predicted alpha, ``(H, W)``, floats in [0, 1] or ``uint8``.
        target: True alpha, likewise.
        trimap: ``(H, W)`` ``uint8`` of 0, 128, 255 (or floats 0, 0.5, 1): errors are summed over its unknown region,
            while GRAD still filters, and CONN still connects, whole mattes. None for the whole image.
        convention: "dim" or "aim".

    Returns:
        ``sad``, ``mse``, ``mad``, ``grad`` and ``conn``; all 0 where the region is empty.

    Raises:
        InputError: Shapes differ, values are out of range, a matte has channels, or the convention is unknown.

    >>> target = np.zeros((8, 8)); target[2:6, 2:6] = 1
    >>> matting_metrics(target, target)
    {'sad': 0.0, 'mse': 0.0, 'mad': 0.0, 'grad': 0.0, 'conn': 0.0}
    >>> round(matting_metrics(target * 0.5, target)["mad"], 3)
    0.125
    """
    pair = _Pair(pred, target, trimap)
    rules = _rules(convention)
    return {**pair.differences(), "grad": pair.grad(rules), "conn": pair.conn(rules)}


def sad(pred: np.ndarray, target: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Sum of absolute differences, Σ|d| / 1000; arguments and errors as for `matting_metrics`.

    >>> sad(np.full((10, 10), 0.5), np.zeros((10, 10)))
    0.05
    """
    return _Pair(pred, target, trimap).differences()["sad"]


def mse(pred: np.ndarray, target: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean squared error, Σd² / |Ω|, 0 where Ω is empty; arguments and errors as for `matting_metrics`.

    >>> mse(np.full((10, 10), 0.5), np.zeros((10, 10)))
    0.25
    """
    return _Pair(pred, target, trimap).differences()["mse"]


def mad(pred: np.ndarray, target: np.ndarray, trimap: np.ndarray | None = None) -> float:
    """Mean absolute difference, Σ|d| / |Ω|, 0 where Ω is empty; arguments and errors as for `matting_metrics`.

    >>> mad(np.full((10, 10), 0.5), np.zeros((10, 10)))
    0.5
    """
    return _Pair(pred, target, trimap).differences()["mad"]


def grad(pred: np.ndarray, target: np.ndarray, trimap: np.ndarray | None = None, convention: str = "dim") -> float:
    """Gradient error, Σ(|∇p| − |∇g|)² / 1000 or / 10; arguments and errors as for `matting_metrics`.

    ``dim`` stretches each matte to [0, 1] first, so mattes of one shape but different strength score 0:

    >>> ramp = np.tile(np.linspace(0, 1, 16), (16, 1))
    >>> grad(ramp / 2, ramp, convention="dim") < 1e-20 < grad(ramp / 2, ramp, convention="aim")
    True
    """
    return _Pair(pred, target, trimap).grad(_rules(convention))


def conn(pred: np.ndarray, target: np.ndarray, trimap: np.ndarray | None = None, convention: str = "dim") -> float:
    """Connectivity error, Σ|φ(p) − φ(g)| / 1000; arguments and errors as for `matting_metrics`.

    An island that only the prediction has is not connected to what both share (l = 0), so it counts in full:

    >>> target = np.zeros((8, 8)); target[:4] = 1
    >>> pred = target.copy(); pred[6, 6] = 1
    >>> conn(pred, target)
    0.001
    """
    return _Pair(pred, target, trimap).conn(_rules(convention))


class _Pair:
    """A checked prediction and target with the region in which errors count."""

    def __init__(self, pred: np.ndarray, target: np.ndarray, trimap: np.ndarray | None) -> None:
        self.pred, self.target = alpha_matte(pred, "prediction"), alpha_matte(target, "target")
        same_shape(self.pred, self.target)
        self.region = None if trimap is None else unknown_region(trimap, self.pred.shape)

    def differences(self) -> dict[str, float]:
        """SAD, MSE and MAD."""
        pred, target = self.pred, self.target
        if self.region is not None:
            pred, target = pred[self.region], target[self.region]
        absolute = squared = 0.0
        for part in _chunks(pred.size):
            difference = unit_floats(pred.reshape(-1)[part]) - unit_floats(target.reshape(-1)[part])
            squared += np.vdot(difference, difference)
            absolute += np.abs(difference, out=difference).sum()
        size = max(pred.size, 1)
        return {"sad": float(absolute / 1000), "mse": float(squared / size), "mad": float(absolute / size)}

    def grad(self, rules: Convention) -> float:
        """GRAD under a convention."""
        spans = (_span(self.pred, rules.normalise), _span(self.target, rules.normalise))
        total = squared_difference(self.pred, self.target, spans, rules.taps, rules.border, self.region)
        return total / rules.grad_unit

    def conn(self, rules: Convention) -> float:
        """CONN under a convention."""
        common = np.minimum(_levels(self.pred, rules.thresholds), _levels(self.target, rules.thresholds))
        connected = connected_levels(common, skip_empty=rules.skip_empty, by_columns=rules.by_columns).reshape(-1)
        total = 0.0
        for part in _chunks(self.pred.size):
            threshold = rules.thresholds[connected[part]]
            difference = _excess(self.pred.reshape(-1)[part], threshold)
            difference -= _excess(self.target.reshape(-1)[part], threshold)
            np.abs(difference, out=difference)
            total += difference.sum() if self.region is None else difference[self.region.reshape(-1)[part]].sum()
        return float(total / 1000)


def _rules(convention: str) -> Convention:
    if convention not in CONVENTIONS:
        known = " or ".join(f'"{name}"' for name in CONVENTIONS)
        raise InputError(f'the convention is {known}, not "{convention}"{nearest(str(convention), CONVENTIONS)}')
    return CONVENTIONS[convention]


def _chunks(size: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, size, _CHUNK)]


def _span(matte: np.ndarray, normalise: bool) -> float:
    """What to divide by to reach [0, 1], or to span it where wanted and possible; gradients need no offset."""
    full = 255.0 if matte.dtype == np.uint8 else 1.0
    span = float(matte.max()) - float(matte.min())
    return span if normalise and span > 0 else full


def _levels(matte: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of the thresholds after the first each pixel reaches, ``uint8``."""
    reached = np.zeros(matte.shape, np.uint8)
    for threshold in thresholds[1:]:
        # For bytes: the smallest one that reaches it.
        reached += matte >= (np.uint8(np.searchsorted(_BYTES, threshold)) if matte.dtype == np.uint8 else threshold)
    return reached


def _excess(matte: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """1 − φ: what a matte exceeds the connected threshold by, unless that is small."""
    excess = unit_floats(matte) - threshold
    excess *= excess >= _STEP
    return excess
