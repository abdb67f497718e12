"""Score the embedded checkpoint on held-out objects over held-out scenes; writes nano.json and a page of pictures.

    python benchmarks/nano.py --corpora DIR [--model nano] [--size 64] [--count 96] [--steps 8]

The composites are drawn with a fixed seed from the test split of the corpora (`omnialpha.data`), whose objects and
scenes training never saw. Every figure has its rival beside it: matting the best constant alpha, removal the input
itself. Means are over pictures.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import omnialpha
from omnialpha.data.examples import make_example
from omnialpha.data.scenes import Corpus, composite_over, draw_scene
from omnialpha.models.vae import decode_frame, encode_frame
from omnialpha.tasks import TASKS

RESULT = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "images" / "nano_scores.png"
SEED = 20_000
BATCH = 16
MATTING = ("matting_auto", "matting_alpha", "matting_trimap", "matting_precise_mask", "matting_rough_mask")
REMOVAL = ("removal_auto", "removal_rough_mask")
DECOMPOSITION = ("decomposition_auto", "decomposition_precise_mask")
NINE_BACKGROUNDS = [(0.5, 0.5, 0.5), *[(r, g, b) for r in (0, 1) for g in (0, 1) for b in (0, 1)]]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two pictures in [0, 1], dB."""
    return float(-10 * np.log10(np.mean((a - b) ** 2) + 1e-10))


def over_colour(rgba: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    """RGBA (H, W, 4) over one colour, (H, W, 3)."""
    return rgba[..., :3] * rgba[..., 3:] + np.array(colour) * (1 - rgba[..., 3:])


def as_picture(array: np.ndarray) -> Image.Image:
    """Float RGBA to PIL."""
    return Image.fromarray((array * 255).round().astype(np.uint8))


class Scorer:
    """Runs tasks on fixed scenes and keeps what came out."""

    def __init__(self, model: str, corpora: str, size: int, count: int, steps: int | None) -> None:
        self.steps = steps
        self.pipe = omnialpha.load(model)
        self.pipe.set_progress_bar_config(disable=True)
        corpus = Corpus(corpora, "test")
        self.scenes = [draw_scene(corpus, np.random.default_rng([SEED, i]), size) for i in range(count)]

    def run(self, task_id: str) -> tuple[list, np.ndarray, float]:
        """Examples, predictions (N, m, H, W, 4) in Table 1's order, and seconds per picture."""
        rngs = [np.random.default_rng([SEED, i, 1]) for i in range(len(self.scenes))]
        pairs = zip(self.scenes, rngs, strict=True)
        examples = [make_example(scene, TASKS[task_id], rng, paraphrase=False, focus=0) for scene, rng in pairs]
        outputs = []
        start = time.perf_counter()
        for first in range(0, len(examples), BATCH):
            part = examples[first : first + BATCH]
            images = [[as_picture(picture) for picture in example.inputs] for example in part]
            # Raw mode returns the model's own order, which for this checkpoint is Table 1's.
            prompts = [example.prompt for example in part]
            out = self.pipe(
                prompt=prompts,
                images=images,
                num_targets=len(part[0].targets),
                num_inference_steps=self.steps,
                seed=SEED + first,
                output_type="np",
            )
            outputs.append(out.images)
        return examples, np.concatenate(outputs), (time.perf_counter() - start) / len(examples)


def score(scorer: Scorer) -> tuple[dict, list]:
    """All figures, and rows of pictures for the page."""
    figures: dict[str, dict[str, float]] = {}
    alphas = np.stack([scene.foregrounds[0][..., 3] for scene in scorer.scenes])
    constant = min(float(np.abs(alphas - c).mean()) for c in np.linspace(0, 1, 101))
    rows = []
    for task_id in MATTING:
        examples, outputs, seconds = scorer.run(task_id)
        errors = np.abs(outputs[:, 0, ..., 3] - alphas).mean(axis=(1, 2))
        figures[task_id] = {
            "mad_mean": float(errors.mean()),
            "mad_median": float(np.median(errors)),
            "best_constant_mad": constant,
            "share_of_constant": float(errors.mean() / constant),
            "seconds_per_picture": seconds,
        }
        if task_id == "matting_auto":
            order = np.argsort(errors)
            middle = len(order) // 2
            for label, picks in (
                ("best", order[:3]),
                ("median", order[middle - 1 : middle + 2]),
                ("worst", order[-3:]),
            ):
                rows += [(label, examples[i], outputs[i], f"MAD {errors[i]:.3f}") for i in picks]
    for task_id in REMOVAL:
        examples, outputs, seconds = scorer.run(task_id)
        gains, inside = [], []
        for example, output, alpha in zip(examples, outputs, alphas, strict=True):
            truth, result, before = (x[..., :3] for x in (example.targets[0], output[0], example.inputs[0]))
            gains.append((psnr(result, truth), psnr(before, truth)))
            mask = alpha > 0.05
            inside.append(psnr(result[mask], truth[mask]) - psnr(before[mask], truth[mask]))
        after, before = np.mean(gains, axis=0)
        figures[task_id] = {
            "psnr": float(after),
            "input_psnr": float(before),
            "gain": float(after - before),
            "gain_inside_object": float(np.mean(inside)),
            "seconds_per_picture": seconds,
        }
        rows += [(task_id, examples[i], outputs[i], f"gain {gains[i][0] - gains[i][1]:.1f} dB") for i in range(3)]
    for task_id in DECOMPOSITION:
        examples, outputs, seconds = scorer.run(task_id)
        recomposed = [composite_over(output[0], output[1]) for output in outputs]
        quality = [psnr(r[..., :3], e.inputs[0][..., :3]) for r, e in zip(recomposed, examples, strict=True)]
        predicted = outputs[:, 0, ..., 3]
        iou = np.minimum(predicted, alphas).sum((1, 2)) / np.maximum(predicted, alphas).sum((1, 2))
        figures[task_id] = {
            "recomposition_psnr": float(np.mean(quality)),
            "alpha_soft_iou": float(iou.mean()),
            "seconds_per_picture": seconds,
        }
        rows += [(task_id, examples[i], outputs[i], f"recomposed {quality[i]:.1f} dB") for i in range(3)]
    for task_id in ("text_to_image",):
        examples, outputs, seconds = scorer.run(task_id)
        rows += [(task_id, examples[i], outputs[i], examples[i].caption) for i in range(4)]
        figures[task_id] = {"seconds_per_picture": seconds}
    figures["vae_round_trip"] = round_trip(scorer)
    return figures, rows


@torch.no_grad()
def round_trip(scorer: Scorer) -> dict[str, float]:
    """PSNR of encode and decode: cut-outs over nine backgrounds, and composites."""
    result = {}
    for kind in ("cutouts", "composites"):
        pictures = [s.foregrounds[0] if kind == "cutouts" else s.composite for s in scorer.scenes]
        values = []
        for picture in pictures:
            x_BCHW = torch.from_numpy(picture).permute(2, 0, 1)[None] * 2 - 1
            mean = encode_frame(scorer.pipe.vae, x_BCHW).chunk(2, dim=1)[0]
            out = (decode_frame(scorer.pipe.vae, mean)[0].permute(1, 2, 0).numpy() / 2 + 0.5).clip(0, 1)
            values.append(np.mean([psnr(over_colour(out, c), over_colour(picture, c)) for c in NINE_BACKGROUNDS]))
        result[f"{kind}_psnr"] = float(np.mean(values))
    return result


def page(rows: list, file: Path, side: int = 96) -> None:
    """One row per example: inputs, targets, predictions over a checkerboard."""
    squares = (np.indices((side, side)) // 8).sum(0) % 2
    board = Image.fromarray(np.where(squares[..., None], 205, 255).astype(np.uint8).repeat(3, axis=-1)).convert("RGBA")
    sheet = Image.new("RGB", (side * 6 + 150, side * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, (label, example, outputs, note) in enumerate(rows):
        draw.text((4, y * side + 8), f"{label}\n{note}", fill="black")
        for x, picture in enumerate([*example.inputs, *example.targets, *outputs]):
            tile = as_picture(np.asarray(picture)).resize((side, side))
            sheet.paste(Image.alpha_composite(board, tile), (150 + x * side, y * side))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)


def main() -> None:
    """Score, write the result file and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", type=int, default=64, help="side of the composites, pixels")
    parser.add_argument("--count", type=int, default=96, help="number of composites")
    parser.add_argument("--steps", type=int, help="sampling steps; by default the checkpoint's")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    figures, rows = score(Scorer(options.model, options.corpora, options.size, options.count, options.steps))
    result = {
        "command": " ".join(["python", *["DIR" if a.startswith("/") else a for a in sys.argv]]),
        "settings": {
            "size": options.size,
            "count": options.count,
            "steps": options.steps or "the checkpoint's",
            "seed": SEED,
            "threads": torch.get_num_threads(),
        },
        "figures": figures,
    }
    options.result.write_text(json.dumps(result, indent=1) + "\n")
    page(rows, options.page)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
