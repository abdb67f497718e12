"""Layers against closed forms: merges find split layers, alignment follows order, bad stacks are refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.evaluation.layers import group_layers, layer_metrics, recomposition_error, sequence_metrics
from omnialpha.imaging.layers import Layer, LayerStack

RGBA = hnp.arrays(np.uint8, (5, 6, 4))


def _rectangle(colour: tuple[int, int, int], columns: slice) -> np.ndarray:
    layer = np.zeros((8, 12, 4), np.uint8)
    layer[:, columns] = (*colour, 255)
    return layer


BACK = _rectangle((10, 20, 30), slice(0, 12))
LEFT, RIGHT = _rectangle((200, 0, 0), slice(1, 5)), _rectangle((0, 200, 0), slice(6, 11))
BOTH = LEFT + RIGHT


@given(RGBA, RGBA)
def test_layer_metrics_literally(pred: np.ndarray, target: np.ndarray) -> None:
    total, count, low, high = 0.0, 0, 0, 0
    for p, g in zip(pred.reshape(-1, 4).tolist(), target.reshape(-1, 4).tolist(), strict=True):
        if g[3] > 0:
            total += sum(abs(p[c] - g[c]) / 255 for c in range(3)) / 3
            count += 1
        low, high = low + min(p[3], g[3]), high + max(p[3], g[3])
    ours = layer_metrics(pred, target)
    assert ours["rgb_l1"] == pytest.approx(total / count if count else 0)
    assert ours["alpha_soft_iou"] == pytest.approx(low / high if high else 1)
    assert layer_metrics(pred / 255, Image.fromarray(target)) == pytest.approx(ours)
    assert layer_metrics(pred, pred) == {"rgb_l1": 0.0, "alpha_soft_iou": 1.0}
    assert 0 <= ours["rgb_l1"] <= 1
    assert 0 <= ours["alpha_soft_iou"] <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(RGBA, min_size=1, max_size=4), st.lists(RGBA, min_size=1, max_size=4))
def test_sequences_stay_in_bounds(pred: list[np.ndarray], target: list[np.ndarray]) -> None:
    result = sequence_metrics(pred, target, max_edits=3)
    assert list(result) == [0, 1, 2, 3]
    for scores in result.values():
        assert scores["cost"] == pytest.approx((scores["rgb_l1"] + 1 - scores["alpha_soft_iou"]) / 2)
        assert 0 <= scores["cost"] <= 1
    perfect = {"cost": 0.0, "rgb_l1": 0.0, "alpha_soft_iou": 1.0}
    assert sequence_metrics(pred, pred, max_edits=1) == {0: perfect, 1: perfect}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_split_layer_is_merged_back(swapped: bool) -> None:
    """Whichever side holds the halves, one edit makes the sequences equal, and further edits change nothing."""
    front = _rectangle((0, 0, 200), slice(3, 9))
    split, whole = [BACK, LEFT, RIGHT, front], [BACK, BOTH, front]
    result = sequence_metrics(whole, split) if swapped else sequence_metrics(split, whole)
    assert result[0]["cost"] > 0.05
    assert result[1] == {"cost": 0.0, "rgb_l1": 0.0, "alpha_soft_iou": 1.0}
    assert result[5] == result[1]


def test_alignment_by_hand() -> None:
    """Two layers against one: both are compared with it, and two are never merged into one."""
    result = sequence_metrics([BACK, LEFT], [BACK], max_edits=2)
    pair = layer_metrics(LEFT, BACK)
    assert result[0]["rgb_l1"] == pytest.approx(pair["rgb_l1"] / 2)
    assert result[0]["alpha_soft_iou"] == pytest.approx((1 + pair["alpha_soft_iou"]) / 2)
    assert result[2] == result[0]


def test_the_caller_keeps_its_layers() -> None:
    layers = [BACK, LEFT, RIGHT]
    sequence_metrics(layers, [BACK, BOTH])
    assert len(layers) == 3


def test_layers_without_overlap_form_one_group() -> None:
    groups = group_layers([BACK, LEFT, RIGHT])
    assert [group.tolist() for group in groups] == [BACK.tolist(), BOTH.tolist()]


def test_recomposition_of_a_stack_is_exact() -> None:
    layers = [Image.fromarray(layer) for layer in (BACK, LEFT, RIGHT)]
    flat = LayerStack([Layer(layer) for layer in layers]).flatten()
    assert set(recomposition_error(layers, flat).values()) == {0.0}
    darker = Image.fromarray(np.asarray(flat) // np.array([2, 2, 2, 1], np.uint8))
    assert recomposition_error(layers, darker)["recomposition_l1"] > 0.01


@pytest.mark.parametrize(
    ("pred", "target", "message"),
    [
        ([], [BACK], "no layers"),
        ([BACK], [BACK[:4]], "differ in size"),
        ([BACK, BACK[:4]], [BACK], "one canvas"),
        ([BACK[..., :3]], [BACK], "RGBA"),
        ([Image.new("RGB", (12, 8))], [BACK], '"RGBA", not "RGB"'),
        ([BACK.astype(np.uint16)], [BACK], "uint16"),
        ([np.full((8, 12, 4), np.nan)], [BACK], "NaN"),
    ],
)
def test_bad_sequences(pred: Any, target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sequence_metrics(pred, target)


def test_negative_edits() -> None:
    with pytest.raises(InputError, match="0 or more"):
        sequence_metrics([BACK], [BACK], max_edits=-1)
