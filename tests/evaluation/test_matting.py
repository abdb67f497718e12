"""Matting metrics: the numbers of both reference evaluators, literal re-implementations, properties, bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from omnialpha.errors import InputError
from omnialpha.evaluation import matting
from omnialpha.evaluation.accumulate import DIRECTION, Mean
from omnialpha.evaluation.matting import CONVENTIONS, matting_metrics

DATA = Path(__file__).parent / "data"
PAIRS: dict[str, Any] = json.loads((DATA / "expected.json").read_text())["pairs"]
KINDS: dict[str, Any] = {
    "bytes": np.asarray,
    "doubles": lambda a: a / 255,
    "floats": lambda a: (a / 255).astype(np.float32),
}


def _read(name: str, kind: str) -> np.ndarray:
    return np.asarray(Image.open(DATA / f"{name}_{kind}.png"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["dim_whole", "dim_trimap", "aim_whole"])
@pytest.mark.parametrize("name", PAIRS)
def test_reference_numbers(name: str, column: str, kind: str) -> None:
    """MATLAB code under Octave and the AIM-500 evaluator, whatever type carries the 8-bit mattes."""
    pred, target = (KINDS[kind](_read(name, part)) for part in ("pred", "gt"))
    trimap = _read(name, "trimap") if column == "dim_trimap" else None
    ours = matting_metrics(pred, target, trimap, convention=column[:3])
    expected = PAIRS[name]["expected"][column]
    assert {key: ours[key] for key in expected} == pytest.approx(expected, rel=2e-6, abs=1e-12)


def _literal_grad(pred: np.ndarray, target: np.ndarray, convention: str) -> np.ndarray:
    """GRAD's error map, filter by filter in double precision."""
    if convention == "aim":

        def magnitude(matte: np.ndarray) -> np.ndarray:
            return np.hypot(*(ndimage.gaussian_filter(matte, 1.4, order=order) for order in ([0, 1], [1, 0])))
    else:
        x = np.arange(-4, 5)
        kernel = np.outer(np.exp(-(x**2) / 3.92), x * np.exp(-(x**2) / 3.92))
        kernel /= np.sqrt((kernel**2).sum())

        def magnitude(matte: np.ndarray) -> np.ndarray:
            if np.ptp(matte) > 0:
                matte = (matte - matte.min()) / np.ptp(matte)
            return np.hypot(*(ndimage.correlate(matte, k, mode="nearest") for k in (kernel, kernel.T)))

    return (magnitude(pred) - magnitude(target)) ** 2 / {"dim": 1000, "aim": 10}[convention]


def _literal_conn(pred: np.ndarray, target: np.ndarray, convention: str) -> np.ndarray:
    """CONN's error map, labelling once per threshold."""
    thresholds = np.arange(0, 1.1, 0.1) if convention == "aim" else np.arange(11) / 10
    reached = np.full(pred.shape, -1.0)
    for index in range(1, 11):
        common = (pred >= thresholds[index]) & (target >= thresholds[index])
        turned = common.T if convention == "dim" else common
        labels, count = ndimage.label(turned)
        if convention == "dim":
            labels = labels.T
        if count == 0 and convention == "aim":
            continue
        largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]) if count else np.zeros_like(common)
        reached[(reached == -1) & ~largest] = thresholds[index - 1]
    reached[reached == -1] = 1
    phi = [1 - (matte - reached) * (matte - reached >= 0.15) for matte in (pred, target)]
    return np.abs(phi[0] - phi[1]) / 1000


SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 70))
# Few different values make many components of one size.
BYTES = hnp.arrays(np.uint8, st.shared(SHAPES, key="shape"), elements=st.sampled_from([0, 51, 100, 153, 230, 255]))
FLOATS = hnp.arrays(np.float64, st.shared(SHAPES, key="shape"), elements=st.floats(0, 1))
TRIMAPS = hnp.arrays(np.uint8, st.shared(SHAPES, key="shape"), elements=st.sampled_from([0, 128, 255]))


# 0.75 lies on the step of 0.15 above AIM's 0.6000000000000001, which is not 0.6.
_ON_THE_STEP = (np.array([[1.0, 0.625, 0.75]]), np.full((1, 3), 230, np.uint8), np.zeros((1, 3), np.uint8), "aim")

# DIM stretches every matte to [0, 1], however little it holds.
_TINY_SPAN = (np.array([[3e-290, 0.0]]), np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8), "dim")


@settings(max_examples=60, deadline=None)
@example(*_ON_THE_STEP)
@example(*_TINY_SPAN)
@given(st.one_of(BYTES, FLOATS), st.one_of(BYTES, FLOATS), TRIMAPS, st.sampled_from(["dim", "aim"]))
def test_literal_versions(pred: np.ndarray, target: np.ndarray, trimap: np.ndarray, convention: str) -> None:
    p, g = (matte / 255 if matte.dtype == np.uint8 else matte for matte in (pred, target))
    unknown = trimap == 128
    error = np.abs(p - g)
    whole = matting_metrics(pred, target, convention=convention)
    part = matting_metrics(pred, target, trimap, convention)
    for ours, where, size in ((whole, np.ones_like(unknown), p.size), (part, unknown, max(unknown.sum(), 1))):
        assert ours["sad"] == pytest.approx(error[where].sum() / 1000, rel=1e-9, abs=1e-15)
        assert ours["mad"] == pytest.approx(error[where].sum() / size, rel=1e-9, abs=1e-15)
        assert ours["mse"] == pytest.approx((error[where] ** 2).sum() / size, rel=1e-9, abs=1e-15)
        # abs: the filters of nearly flat mattes leave rounding, which is all there is to compare then.
        assert ours["grad"] == pytest.approx(_literal_grad(p, g, convention)[where].sum(), rel=2e-6, abs=1e-9)
        assert ours["conn"] == pytest.approx(_literal_conn(p, g, convention)[where].sum(), rel=1e-9, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.one_of(BYTES, FLOATS), st.one_of(BYTES, FLOATS), st.sampled_from(["dim", "aim"]))
def test_identity_symmetry_and_bounds(pred: np.ndarray, target: np.ndarray, convention: str) -> None:
    assert set(matting_metrics(pred, pred, convention=convention).values()) == {0.0}
    forth = matting_metrics(pred, target, convention=convention)
    assert matting_metrics(target, pred, convention=convention) == pytest.approx(forth, rel=1e-5, abs=1e-12)
    assert 0 <= forth["mse"] <= forth["mad"] + 1e-12 <= 1 + 1e-9
    assert min(forth.values()) >= 0
    assert forth["sad"] == pytest.approx(forth["mad"] * pred.size / 1000)


def test_single_functions_agree_with_all_at_once() -> None:
    pred, target, trimap = (_read("06_multi_160x200", kind) for kind in ("pred", "gt", "trimap"))
    for convention in CONVENTIONS:
        together = matting_metrics(pred, target, trimap, convention)
        assert together["sad"] == matting.sad(pred, target, trimap)
        assert together["mse"] == matting.mse(pred, target, trimap)
        assert together["mad"] == matting.mad(pred, target, trimap)
        assert together["grad"] == matting.grad(pred, target, trimap, convention)
        assert together["conn"] == matting.conn(pred, target, trimap, convention)
    assert set(together) <= set(DIRECTION)


def test_close_mattes_keep_their_digits() -> None:
    """A difference of one part in a million between steep mattes: GRAD must not drown in rounding."""
    target = np.tile(np.linspace(0, 1, 200) ** 2, (150, 1))
    pred = np.clip(target + 1e-6 * np.sin(np.arange(200)), 0, 1)
    expected = _literal_grad(pred, target, "aim").sum()
    assert matting.grad(pred, target, convention="aim") == pytest.approx(expected, rel=1e-5)


def test_data_set_is_the_mean_of_images_not_of_pixels() -> None:
    mean = Mean()
    values = [matting_metrics(_read(name, "pred"), _read(name, "gt")) for name in PAIRS]
    for value in values:
        mean.update(value)
    assert mean.compute()["sad"] == pytest.approx(np.mean([value["sad"] for value in values]))


def test_float_trimap_and_empty_region() -> None:
    pred, target = np.full((4, 4), 0.5), np.zeros((4, 4))
    trimap = np.zeros((4, 4))
    assert set(matting_metrics(pred, target, trimap).values()) == {0.0}
    trimap[0] = 0.5
    assert matting_metrics(pred, target, trimap)["sad"] == 0.002


GOOD = np.zeros((4, 4))


@pytest.mark.parametrize(
    ("pred", "target", "trimap", "convention", "message"),
    [
        (GOOD, np.zeros((4, 5)), None, "dim", "differ in size"),
        (np.zeros((4, 4, 3)), GOOD, None, "dim", "one channel"),
        (GOOD, np.zeros((0, 4)), None, "dim", "one channel"),
        (np.full((4, 4), np.nan), GOOD, None, "dim", "NaN"),
        (np.full((4, 4), np.inf), GOOD, None, "dim", "infinity"),
        (GOOD + 255, GOOD, None, "dim", "scale it"),
        (GOOD - 0.1, GOOD, None, "aim", "scale it"),
        (GOOD, np.zeros((4, 4), np.uint16), None, "dim", "65535"),
        (GOOD, np.zeros((4, 4), bool), None, "dim", "not bool"),
        (GOOD.tolist(), GOOD, None, "dim", "numpy.asarray"),
        (GOOD, GOOD, np.full((4, 4), 127, np.uint8), "dim", "only 0, 128 and 255"),
        (GOOD, GOOD, np.zeros((4, 5), np.uint8), "dim", "the trimap has shape"),
        (GOOD, GOOD, None, "din", '"dim"'),
    ],
)
def test_bad_input(pred: Any, target: Any, trimap: Any, convention: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        matting_metrics(pred, target, trimap, convention)
