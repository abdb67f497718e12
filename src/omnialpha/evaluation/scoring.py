"""Scores of one prediction, and of the set of all predictions, by what kind of thing they are.

A prediction is scored at the size of its target ("native"). When it was made at another size, it is scored at that one
as well ("generation", the target being resized), because SAD, GRAD and CONN depend on it; both are kept.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from omnialpha.errors import ImageError, InputError, nearest
from omnialpha.evaluation import extractors
from omnialpha.evaluation.accumulate import DIRECTION
from omnialpha.evaluation.cases import Case, Content
from omnialpha.evaluation.generation import (
    FeatureStatistics,
    clip_score,
    over_backgrounds,
    psnr,
    rgba_psnr,
    rgba_ssim,
    ssim,
)
from omnialpha.evaluation.layers import group_layers, recomposition_error, sequence_metrics
from omnialpha.evaluation.lpips import LPIPS
from omnialpha.evaluation.matting import CONVENTIONS, matting_metrics
from omnialpha.evaluation.pictures import Note, Size, resize, resize_trimap

GRID = 32  # models round sizes to multiples of up to this; what differs by more is another picture
MAX_EDITS = 5

Prediction = np.ndarray | list[np.ndarray]
Values = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How predictions are scored; belongs to every number.

    Attributes:
        size: which of the two sizes tables and comparisons show.
        convention: of the matting metrics.
        region: pixels in which mattes are compared.
        grouped: layers that nothing separates in depth are merged first, as LayerD's evaluator does.

    Raises:
        InputError: An unknown value.
    """

    size: Literal["native", "generation"] = "native"
    convention: str = "aim"
    region: Literal["whole", "trimap"] = "whole"
    grouped: bool = False

    def __post_init__(self) -> None:
        allowed = {"size": ("native", "generation"), "convention": tuple(CONVENTIONS), "region": ("whole", "trimap")}
        for name, values in allowed.items():
            value = str(getattr(self, name))
            if value not in values:
                raise InputError(f'the {name} is {" or ".join(values)}, not "{value}"{nearest(value, values)}')


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The networks that some metrics stand on, loaded on first use from the paths given; None leaves the metric out.

    Attributes:
        inception: TorchScript file for FID.
        clip: folder for CLIP-FID and CLIP-Score.
        lpips: linear weights of the lpips package.
        lpips_backbone: torchvision's weights of its backbone.
        lpips_net: "alex" or "vgg".
        device: where they run.
    """

    inception: Path | None = None
    clip: Path | None = None
    lpips: Path | None = None
    lpips_backbone: Path | None = None
    lpips_net: Literal["alex", "vgg"] = "alex"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (self.lpips is None) != (self.lpips_backbone is None):
            raise InputError("LPIPS needs two files, its own weights and its backbone's; give both or neither")

    @cached_property
    def distance(self) -> LPIPS | None:
        """LPIPS."""
        if self.lpips is None or self.lpips_backbone is None:
            return None
        return LPIPS(self.lpips_backbone, self.lpips, self.lpips_net, self.device)

    @cached_property
    def embed_image(self) -> extractors.Extractor | None:
        """CLIP's image embedding."""
        return None if self.clip is None else extractors.clip(self.clip, self.device)

    @cached_property
    def embed_text(self) -> Any:
        """CLIP's text embedding of a caption."""
        return None if self.clip is None else extractors.clip_text(self.clip, self.device)

    @cached_property
    def features(self) -> dict[str, extractors.Extractor]:
        """Name of a Fréchet distance to its features, for those whose network is given."""
        found: dict[str, extractors.Extractor] = {}
        if self.inception is not None:
            found["fid"] = extractors.inception(self.inception, self.device)
        if self.embed_image is not None:
            found["clip_fid"] = self.embed_image
        return found


def direction(metric: str) -> Literal["lower", "higher"]:
    """Which way a metric of `score_case` improves.

    >>> direction("sad"), direction("alpha_soft_iou@5"), direction("background_psnr")
    ('lower', 'higher', 'higher')
    """
    name = metric.split("@")[0].removeprefix("rgba_").removeprefix("background_")
    return DIRECTION[name]


def score_case(
    case: Case, content: Content, prediction: Prediction, rules: Rules, networks: Networks, note: Note
) -> dict[str, Values]:
    """Score one prediction.

    Args:
        case: Says what kind of prediction it is.
        content: Its target.
        prediction: As the file has it, at the size at which it was made.
        rules: How to score.
        networks: For LPIPS and CLIP-Score.
        note: Receives what was converted.

    Returns:
        "native" to metric to value, and "generation" likewise where the prediction has another size than the target.

    Raises:
        ImageError: The prediction has another shape than the target, or another number of layers than can be scored.
        InputError: A trimap is needed and missing or wrong, or a picture is too small for a metric.
    """
    made = size_of(prediction)
    if content.target is None or case.kind == "generated":
        return {"native": _generated(case, prediction, networks)}
    native = size_of(content.target)
    if made == native:
        return {"native": _score(case, content, prediction, rules, networks)}
    scale = math.sqrt(made[0] * made[1] / (native[0] * native[1]))
    if any(abs(side - scale * native_side) > GRID / 2 for side, native_side in zip(made, native, strict=True)):
        raise ImageError(
            f"{case.name}: the prediction is {made[0]}×{made[1]} pixels and the target {native[0]}×{native[1]}: "
            "not the same picture at another size; check which files belong together"
        )
    note("prediction: of another size than the target, resized for the native score")
    return {
        "native": _score(case, content, resized(prediction, native), rules, networks),
        "generation": _score(case, _resized_content(content, made), prediction, rules, networks),
    }


def set_scores(
    pairs: Iterable[tuple[Prediction, np.ndarray | None]], kind: str, networks: Networks
) -> dict[str, dict[str, float]]:
    """Score the set of all predictions of a task against the set of all targets: FID and CLIP-FID.

    Opaque pictures are compared as they are, RGBA pictures over each of the nine AlphaVAE backgrounds, and the nine
    distances are averaged.

    Args:
        pairs: Predictions and, where there is one, a member of the reference set.
        kind: "picture" or "generated"; other kinds have no such score.
        networks: Which distances are possible.

    Returns:
        Metric to ``{"mean", "count"}``, the number of predictions; empty when no network is given, or with fewer
        than two pictures on a side.
    """
    if kind not in ("picture", "generated") or not networks.features:
        return {}
    statistics: dict[tuple[str, str, str], FeatureStatistics] = {}
    for pair in pairs:
        for side, picture in zip(("prediction", "target"), pair, strict=True):
            if not isinstance(picture, np.ndarray):
                continue
            views = over_backgrounds(picture) if picture.shape[2] == 4 else {"": picture}
            for name, extract in networks.features.items():
                for background, view in views.items():
                    key = (name, background, side)
                    statistics.setdefault(key, FeatureStatistics()).update(extract(view)[None])
    result = {}
    for name in networks.features:
        backgrounds = [b for n, b, side in statistics if n == name and side == "prediction"]
        sides = [(statistics[name, b, "prediction"], statistics.get((name, b, "target"))) for b in backgrounds]
        if sides and all(t is not None and min(p.count, t.count) > 1 for p, t in sides):
            distances = [p.distance(t) for p, t in sides if t is not None]
            result[name] = {"mean": float(np.mean(distances)), "count": sides[0][0].count}
    return result


def _score(case: Case, content: Content, prediction: Prediction, rules: Rules, networks: Networks) -> Values:
    """Scores of a prediction that has its target's size."""
    target = content.target
    if case.kind == "layers":
        assert isinstance(prediction, list)
        assert isinstance(target, list)
        return _layers(content, prediction, target, rules)
    assert isinstance(prediction, np.ndarray)
    assert isinstance(target, np.ndarray)
    if case.kind == "picture":
        values = {"psnr": psnr(prediction, target), "ssim": ssim(prediction, target)}
        if networks.distance is not None:
            values["lpips"] = networks.distance(prediction, target)
        return values
    trimap = content.trimap if rules.region == "trimap" else None
    if rules.region == "trimap" and trimap is None:
        raise InputError(f"{case.name}: there is no trimap; score the whole image")
    if case.kind == "matte":
        return matting_metrics(prediction, target, trimap, rules.convention)
    alpha, true_alpha = (np.ascontiguousarray(picture[..., 3]) for picture in (prediction, target))
    return matting_metrics(alpha, true_alpha, trimap, rules.convention) | {
        "rgba_psnr": float(np.mean(list(rgba_psnr(prediction, target).values()))),
        "rgba_ssim": float(np.mean(list(rgba_ssim(prediction, target).values()))),
    }


def _layers(content: Content, prediction: Sequence[np.ndarray], target: Sequence[np.ndarray], rules: Rules) -> Values:
    background = {
        "background_psnr": psnr(prediction[0][..., :3], target[0][..., :3]),
        "background_ssim": ssim(prediction[0][..., :3], target[0][..., :3]),
    }
    error = recomposition_error(prediction, np.asarray(content.images[0]))
    if rules.grouped:
        prediction, target = group_layers(prediction), group_layers(target)
    sequences = sequence_metrics(prediction, target, MAX_EDITS)
    values = {f"{name}@{edits}": value for edits, scores in sequences.items() for name, value in scores.items()}
    return values | background | error


def _generated(case: Case, prediction: Prediction, networks: Networks) -> Values:
    if networks.embed_image is None or case.text is None or not isinstance(prediction, np.ndarray):
        return {}
    views: Mapping[str, np.ndarray] = {"": prediction}
    if prediction.shape[2] == 4:
        views = over_backgrounds(prediction)
    words = networks.embed_text(case.text)
    return {"clip_score": float(np.mean([clip_score(networks.embed_image(view), words) for view in views.values()]))}


def size_of(pictures: Prediction) -> Size:
    """Width and height of a prediction or a target."""
    height, width = (pictures[0] if isinstance(pictures, list) else pictures).shape[:2]
    return width, height


def resized(pictures: Prediction, size: Size) -> Prediction:
    """A prediction or a target at another size (see `pictures.resize`)."""
    return [resize(picture, size) for picture in pictures] if isinstance(pictures, list) else resize(pictures, size)


def _resized_content(content: Content, size: Size) -> Content:
    images = tuple(image.resize(size) if image.size != size else image for image in content.images)
    assert content.target is not None
    trimap = None if content.trimap is None else resize_trimap(content.trimap, size)
    return Content(images=images, target=resized(content.target, size), trimap=trimap)
