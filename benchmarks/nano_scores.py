"""What `nano.py` measures of each task: errors per picture (smaller is better) and a summary of means.

A figure takes the answers, triples of example, scene and layers in Table 1's order, and the training corpus. Layers
are float32 (H, W, 4) in [0, 1], straight alpha.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage
from PIL import Image

from omnialpha.data.examples import Example
from omnialpha.data.scenes import Corpus, Scene, composite_over
from omnialpha.imaging.rgba import to_array, to_pil
from omnialpha.models.vae import decode_frame, encode_frame
from omnialpha.training.losses import gradient_proxy

NINE_BACKGROUNDS = [(0.5, 0.5, 0.5), *[(r, g, b) for r in (0, 1) for g in (0, 1) for b in (0, 1)]]
NUM_OBJECTS = {"matting_text": 2}
"""How many objects the composites of a task show, where it is not one."""

PRESENT = 0.05  # alpha beyond which a pixel belongs to the object that is removed
NEAREST = 10  # objects among which the asked one should be
THUMB = 16  # side of the pictures that the proxy compares
SOFT = (0.02, 0.98)  # alpha between is soft
CLEAN = 0.25  # a clean cut-out has a smaller share of soft pixels

Answer = tuple[Example, Scene, list[np.ndarray]]
Figure = Callable[[Sequence[Answer], Corpus], tuple[np.ndarray, dict[str, float]]]


@dataclass
class Result:
    """One composite, what a task asks of it, and the answer: as the model gave it, and as a user gets it."""

    scene: Scene
    example: Example
    raw: list[np.ndarray] = field(default_factory=list)
    final: list[np.ndarray] = field(default_factory=list)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of pictures in [0, 1], dB; 99 for equal ones."""
    return float(min(99.0, -10 * np.log10(np.mean((a - b) ** 2) + 1e-12)))


def matting(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """Mean absolute difference of alpha, beside that of the best constant."""
    alphas = np.stack([scene.foregrounds[0][..., 3] for _, scene, _ in answers])
    errors = np.array([np.abs(layers[0][..., 3] - a).mean() for (_, _, layers), a in zip(answers, alphas, strict=True)])
    constant = min(float(np.abs(alphas - c).mean()) for c in np.linspace(0, 1, 101))
    return errors, {
        "mad_mean": float(errors.mean()),
        "mad_median": float(np.median(errors)),
        "best_constant_mad": constant,
    }


def matting_by_text(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """Whether the object that the caption names was cut out, and not the other: IoU of the seen parts beyond 0.5."""
    own, other = [], []
    for _, scene, layers in answers:
        near, far = (layer[..., 3] for layer in scene.foregrounds)
        found = layers[0][..., 3] > 0.5
        own.append(iou(found, near > 0.5))  # the object asked for is the front one: nothing covers it
        other.append(iou(found, (far > 0.5) & (near <= 0.5)))
    right = np.array(own)
    return 1 - right, {
        "right_object": float((right > 0.5).mean()),
        "wrong_object": float((np.array(other) > 0.5).mean()),
        "iou_mean": float(right.mean()),
    }


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 1 when both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


def removal(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """PSNR against the true background and its gain over the input, whole and inside the object; LPIPS' stand-in."""
    rows = []
    for example, scene, layers in answers:
        truth, result, before = (x[..., :3] for x in (example.targets[0], layers[0], example.inputs[0]))
        inside = scene.foregrounds[0][..., 3] > PRESENT
        pictures = (torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None] for x in (result, truth))
        rows.append(
            (
                psnr(result, truth),
                psnr(result, truth) - psnr(before, truth),
                psnr(result[inside], truth[inside]) - psnr(before[inside], truth[inside]) if inside.any() else 0.0,
                float(gradient_proxy(*pictures)),
            )
        )
    names = ("psnr", "gain", "gain_inside_object", "lpips_proxy")
    return -np.array(rows)[:, 2], dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def decomposition(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """Soft IoU of the object's alpha, PSNR of the layers laid over each other, PSNR of the background layer."""
    rows = []
    for example, _, layers in answers:
        predicted, truth = layers[0][..., 3], example.targets[0][..., 3]
        soft_iou = np.minimum(predicted, truth).sum() / max(np.maximum(predicted, truth).sum(), 1e-6)
        again = composite_over(layers[0], layers[-1])
        rows.append(
            (
                float(soft_iou),
                psnr(again[..., :3], example.inputs[0][..., :3]),
                psnr(layers[-1][..., :3], example.targets[-1][..., :3]),
            )
        )
    names = ("alpha_soft_iou", "recomposition_psnr", "background_psnr")
    return 1 - np.array(rows)[:, 0], dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def kept_foreground(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """PSNR of the composite inside the given foreground, where that is opaque."""
    values = []
    for example, scene, layers in answers:
        inside = scene.foregrounds[0][..., 3] > SOFT[1]
        if inside.any():
            values.append(psnr(layers[0][..., :3][inside], example.inputs[0][..., :3][inside]))
        else:
            values.append(float("nan"))
    return -np.nan_to_num(np.array(values), nan=99.0), {"kept_psnr": float(np.nanmean(values))}


def kept_background(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """PSNR of the composite against the given background over the half of the pixels that changed least.

    Where the new object may be is the model's choice, so the other half is not held against it.
    """
    values = []
    for example, _, layers in answers:
        squared = ((layers[0][..., :3] - example.inputs[0][..., :3]) ** 2).mean(axis=-1)
        values.append(float(min(99.0, -10 * np.log10(np.sort(squared.ravel())[: squared.size // 2].mean() + 1e-12))))
    return -np.array(values), {"kept_psnr_of_calmer_half": float(np.mean(values))}


def layer_similarity(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """Completion that gives a layer alone: the given one is no part of it, so only its validity can be told.

    A background must be opaque, a foreground neither empty nor full.
    """
    alphas = np.array([layers[0][..., 3].mean() for _, _, layers in answers])
    wanted = np.array([example.targets[0][..., 3].mean() for example, _, _ in answers])
    return np.abs(alphas - wanted), {"mean_alpha": float(alphas.mean()), "mean_alpha_of_targets": float(wanted.mean())}


def text_to_image(answers: Sequence[Answer], corpus: Corpus) -> tuple[np.ndarray, dict[str, float]]:
    """Whether the object of the caption is among the nearest of all training objects, and whether alpha is clean.

    A proxy: pictures are near when their trimmed thumbnails over grey, with alpha as a fourth channel, differ little;
    a mirror image is the same object.
    """
    known = np.stack([thumbnail(cutout.image.convert("RGBA")) for cutout in corpus.cutouts])
    captions = np.array([cutout.caption for cutout in corpus.cutouts])
    ranks, clean = [], []
    for example, _, layers in answers:
        alpha = layers[0][..., 3]
        mine = thumbnail(to_pil(layers[0]))
        distance = np.minimum(*(((known - t) ** 2).mean(axis=(1, 2, 3)) for t in (mine, mine[:, ::-1])))
        own = distance[captions == example.caption].min()
        ranks.append(int((distance < own).sum()))
        present = (alpha > SOFT[0]).sum()
        soft = ((alpha > SOFT[0]) & (alpha < SOFT[1])).sum()
        clean.append(bool(present) and soft < CLEAN * present)
    return np.array(ranks), {
        "own_object_among_nearest": float((np.array(ranks) < NEAREST).mean()),
        "by_chance": NEAREST / len(known),
        "clean_alpha": float(np.mean(clean)),
    }


def thumbnail(image: Image.Image) -> np.ndarray:
    """What the proxy compares: the object trimmed, small, over grey, with its alpha; (THUMB, THUMB, 4)."""
    box = image.getchannel("A").getbbox()
    small = to_array(image.crop(box).resize((THUMB, THUMB), Image.Resampling.BOX))
    alpha = small[..., 3:]
    return np.concatenate([small[..., :3] * alpha + 0.5 * (1 - alpha), alpha], axis=-1)


@torch.no_grad()
def round_trip(vae: AutoencoderKLQwenImage, scenes: Sequence[Scene]) -> dict[str, float]:
    """PSNR of encode and decode over nine backgrounds: cut-outs, and composites."""
    result = {}
    for kind in ("cutouts", "composites"):
        values = []
        for scene in scenes:
            picture = scene.foregrounds[0] if kind == "cutouts" else scene.composite
            x_BCHW = torch.from_numpy(picture).permute(2, 0, 1)[None] * 2 - 1
            mean_BCHW = encode_frame(vae, x_BCHW).chunk(2, dim=1)[0]
            out = (decode_frame(vae, mean_BCHW)[0].permute(1, 2, 0).numpy() / 2 + 0.5).clip(0, 1)
            values.append(np.mean([psnr(over_colour(out, c), over_colour(picture, c)) for c in NINE_BACKGROUNDS]))
        result[f"{kind}_psnr"] = float(np.mean(values))
    return result


def over_colour(rgba: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """RGBA (H, W, 4) over one colour, (H, W, 3)."""
    return rgba[..., :3] * rgba[..., 3:] + np.array(colour) * (1 - rgba[..., 3:])


FIGURES: dict[str, Figure] = {
    "matting_auto": matting,
    "matting_alpha": matting,
    "matting_trimap": matting,
    "matting_precise_mask": matting,
    "matting_rough_mask": matting,
    "matting_text": matting_by_text,
    "removal_auto": removal,
    "removal_rough_mask": removal,
    "decomposition_auto": decomposition,
    "decomposition_precise_mask": decomposition,
    "text_to_image": text_to_image,
    "foreground_to_background": layer_similarity,
    "foreground_to_composite": kept_foreground,
    "background_to_foreground": layer_similarity,
    "background_to_composite": kept_background,
}
"""Figure of each task."""
