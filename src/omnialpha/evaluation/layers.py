"""Layers and sequences of layers, after LayerD (Suzuki et al., ICCV 2025), whose protocol Qwen-Image-Layered uses too.

- RGB L1: mean |RGB_p − RGB_g| over the pixels with true alpha > 0 (lower is better)
- alpha soft IoU: Σ min(α_p, α_g) / Σ max(α_p, α_g) (higher is better)
- cost of a pair: (RGB L1 + 1 − IoU) / 2 (lower is better)
- sequences are aligned by dynamic time warping, before and after greedy merges of neighbours
- recomposition error: what the flattened layers miss of the picture they were taken from (lower is better)
"""

from collections.abc import Sequence
from functools import reduce

import numpy as np
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.evaluation._inputs import picture, same_shape, unit_floats
from omnialpha.imaging.layers import over
from omnialpha.imaging.rgba import premultiply

Picture = np.ndarray | Image.Image
_MERGEABLE = 3  # the protocol never merges a sequence down to one layer


def layer_metrics(pred_rgba: Picture, target_rgba: Picture) -> dict[str, float]:
    """Compare one layer with another.

    Two fully transparent layers are equal (IoU 1), where LayerD's code returns 0.

    Args:
        pred_rgba: Pillow "RGBA" image or ``(H, W, 4)``, floats in [0, 1] or ``uint8``, straight alpha.
        target_rgba: Likewise, of the same size.

    Returns:
        ``rgb_l1`` (0 where the target is fully transparent) and ``alpha_soft_iou``, both in [0, 1].

    Raises:
        InputError: Sizes differ, or an input is no RGBA picture.

    >>> red = np.tile([1.0, 0, 0, 1], (2, 2, 1))
    >>> layer_metrics(red * [0.25, 1, 1, 0.5], red)
    {'rgb_l1': 0.25, 'alpha_soft_iou': 0.5}
    """
    pred, target = picture(pred_rgba, "prediction", 4), picture(target_rgba, "target", 4)
    same_shape(pred, target)
    pred, target = unit_floats(pred), unit_floats(target)
    visible = target[..., 3] > 0
    rgb_l1 = float(np.abs(pred[visible, :3] - target[visible, :3]).mean()) if visible.any() else 0.0
    union = float(np.maximum(pred[..., 3], target[..., 3]).sum())
    shared = float(np.minimum(pred[..., 3], target[..., 3]).sum())
    return {"rgb_l1": rgb_l1, "alpha_soft_iou": shared / union if union > 0 else 1.0}


def sequence_metrics(
    pred_layers: Sequence[Picture], target_layers: Sequence[Picture], max_edits: int = 5
) -> dict[int, dict[str, float]]:
    """Compare two sequences of layers that may differ in length.

    Both are aligned by dynamic time warping on the cost; scores are means over the aligned pairs. An edit merges two
    neighbours of one sequence, the two whose merge gains most, as long as one gains at all. The sequences are taken as
    they are: LayerD's evaluator calls `group_layers` on both first.

    Args:
        pred_layers: RGBA pictures as for `layer_metrics`, back to front.
        target_layers: Likewise.
        max_edits: How many edits are allowed at most.

    Returns:
        For every number of allowed edits from 0 to ``max_edits``: ``cost``, ``rgb_l1``, ``alpha_soft_iou``. When no
        further edit helps, the remaining entries repeat the last one, so that means over a data set stay comparable.

    Raises:
        InputError: A sequence is empty, sizes differ, an input is no RGBA picture, or ``max_edits`` is negative.

    >>> layers = [np.full((2, 2, 4), value) for value in (1.0, 0.5)]
    >>> sequence_metrics(layers, layers, max_edits=0)
    {0: {'cost': 0.0, 'rgb_l1': 0.0, 'alpha_soft_iou': 1.0}}
    """
    if max_edits < 0:
        raise InputError(f"the number of edits is 0 or more, not {max_edits}")
    sides = (_sequence(pred_layers, "prediction"), _sequence(target_layers, "target"))
    same_shape(sides[0][0], sides[1][0])
    path, scores = _aligned(*sides)
    result = {0: scores}
    for edits in range(1, max_edits + 1):
        gains = (_merge_gains(*sides, path), _merge_gains(sides[1], sides[0], [(j, i) for i, j in path]))
        best = [max(gain, default=0.0) for gain in gains]
        if max(best) > 0:
            side = 0 if best[0] > best[1] else 1
            first = gains[side].index(best[side])
            sides[side][first : first + 2] = [_merged(*sides[side][first : first + 2])]
            path, scores = _aligned(*sides)
        result[edits] = dict(scores)
    return result


def group_layers(layers: Sequence[Picture]) -> list[np.ndarray]:
    """Flatten layers that nothing separates in depth: the first step of LayerD's evaluator.

    The frontmost group is every layer that no layer in front of it overlaps; then the same for the rest.

    Args:
        layers: RGBA pictures as for `layer_metrics`, back to front.

    Returns:
        ``(H, W, 4)`` groups, back to front.

    Raises:
        InputError: As for `sequence_metrics`.

    >>> left, right = np.zeros((1, 2, 4)), np.zeros((1, 2, 4))
    >>> left[0, 0] = right[0, 1] = 1
    >>> len(group_layers([left, right])), len(group_layers([left, right, left]))
    (1, 2)
    """
    rest = _sequence(layers, "sequence")
    groups: list[np.ndarray] = []
    while rest:
        covered = np.zeros(rest[0].shape[:2], bool)
        top: list[np.ndarray] = []
        below: list[np.ndarray] = []
        for layer in reversed(rest):
            present = layer[..., 3] > 0
            (below if (present & covered).any() else top).insert(0, layer)
            covered |= present
        groups.insert(0, reduce(_merged, top))
        rest = below
    return groups


def recomposition_error(layers: Sequence[Picture], image: Picture) -> dict[str, float]:
    """How far the flattened layers are from the picture they decompose.

    RGBA pictures are compared premultiplied: colours count as far as they are visible.

    Args:
        layers: RGBA pictures as for `layer_metrics`, back to front.
        image: RGBA picture of the same size.

    Returns:
        ``recomposition_l1``, mean |C − I|, and ``recomposition_mse``, mean (C − I)², over all four channels.

    Raises:
        InputError: As for `sequence_metrics`.

    >>> back, front = np.ones((2, 2, 4)), np.full((2, 2, 4), [0, 0, 0, 0.5])
    >>> recomposition_error([back, front], np.full((2, 2, 4), [0.5, 0.5, 0.5, 1]))
    {'recomposition_l1': 0.0, 'recomposition_mse': 0.0}
    """
    stack, target = _sequence(layers, "sequence"), picture(image, "image", 4)
    same_shape(stack[0], target)
    flat = reduce(lambda back, front: over(unit_floats(front), back), stack[1:], unit_floats(stack[0]))
    difference = premultiply(flat) - premultiply(unit_floats(target))
    return {
        "recomposition_l1": float(np.abs(difference).mean()),
        "recomposition_mse": float(np.square(difference).mean()),
    }


def _sequence(layers: Sequence[Picture], name: str) -> list[np.ndarray]:
    """Checked layers of one size."""
    arrays = [picture(layer, f"layer {index} of the {name}", 4) for index, layer in enumerate(layers)]
    if not arrays:
        raise InputError(f"the {name} has no layers; give at least one")
    for array in arrays:
        if array.shape != arrays[0].shape:
            raise InputError(
                f"the layers of the {name} differ in size, {array.shape} and {arrays[0].shape}; put them on one canvas"
            )
    return arrays


def _cost(pred: np.ndarray, target: np.ndarray) -> float:
    scores = layer_metrics(pred, target)
    return (scores["rgb_l1"] + 1 - scores["alpha_soft_iou"]) / 2


def _aligned(pred: list[np.ndarray], target: list[np.ndarray]) -> tuple[list[tuple[int, int]], dict[str, float]]:
    """Cheapest alignment, as pairs of indices, and the mean scores along it."""
    scores = {(i, j): layer_metrics(p, g) for i, p in enumerate(pred) for j, g in enumerate(target)}
    for pair in scores.values():
        pair["cost"] = (pair["rgb_l1"] + 1 - pair["alpha_soft_iou"]) / 2

    # Dynamic time warping; among equal predecessors the diagonal comes first, then a step along the prediction.
    total: dict[tuple[int, int], float] = {}
    previous: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j in sorted(scores):
        before = [cell for cell in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if cell in total]
        if before:
            previous[i, j] = min(before, key=total.__getitem__)
        total[i, j] = scores[i, j]["cost"] + (total[previous[i, j]] if before else 0.0)
    path = [(len(pred) - 1, len(target) - 1)]
    while path[-1] != (0, 0):
        path.append(previous[path[-1]])
    path.reverse()
    names = ("cost", "rgb_l1", "alpha_soft_iou")
    return path, {name: sum(scores[pair][name] for pair in path) / len(path) for name in names}


def _merge_gains(layers: list[np.ndarray], others: list[np.ndarray], path: list[tuple[int, int]]) -> list[float]:
    """What merging layers i and i + 1 gains in similarity to the layers they are aligned with, for every i.

    The merged layer takes the first one's partners; the second one's go to the merged layer, or the following layer
    moves up and takes either group: whichever is most similar.
    """
    if len(layers) < _MERGEABLE:
        return []
    partners = [[others[j] for i, j in path if i == index] for index in range(len(layers))]

    def similarity(layer: np.ndarray, group: list[np.ndarray]) -> float:
        return sum(1 - _cost(layer, other) for other in group)

    gains = []
    for index in range(len(layers) - 1):
        groups = partners[index : index + 2]
        merged = _merged(layers[index], layers[index + 1])
        options = [similarity(merged, groups[1])]
        options += [similarity(following, group) for following in layers[index + 2 : index + 3] for group in groups]
        before = similarity(layers[index], groups[0]) + similarity(layers[index + 1], groups[1])
        gains.append(similarity(merged, groups[0]) + max(options) - before)
    return gains


def _merged(back: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Two layers as one: 8-bit layers as Pillow composites them, which the protocol does; floats without rounding."""
    if back.dtype == front.dtype == np.uint8:
        return np.asarray(Image.alpha_composite(Image.fromarray(back), Image.fromarray(front)))
    back, front = unit_floats(back), unit_floats(front)
    # Like Pillow, keep the back's colours where nothing is visible: they count in RGB L1.
    return np.where(front[..., 3:] + back[..., 3:] > 0, over(front, back), back)
