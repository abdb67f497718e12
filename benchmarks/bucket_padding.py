"""Share of padding in bucketed batches of a mixed-resolution manifest, beside padding to the largest of a batch.

    python benchmarks/bucket_padding.py [--samples 150] [--steps 150] [--sides 64 256 512]

The manifest is drawn here: common and odd aspect ratios, 0.03 to 0.5 megapixels, one to three foregrounds, captions of
3 to 20 words. Both ways batch the same stream of examples (the same tasks, sizes, prompts): ours as `draw_batch` gives
them, the naive way shuffled and padded to the widest, highest, most layered and wordiest of each batch. Tokens are
those of the embedded model; the count is checked against what training measures (`Encoded.padding`).
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import omnialpha
from omnialpha.data.buckets import bucket_size, picture_size
from omnialpha.data.examples import Example
from omnialpha.data.groups import sample_groups
from omnialpha.data.loader import TOKEN_PIXELS, draw_batch
from omnialpha.data.manifest import Sample
from omnialpha.models.prompt import grid_size
from omnialpha.pipeline import OmniAlphaPipeline
from omnialpha.training.encoding import encode

RESULT = Path(__file__).with_suffix(".json")
CHECKED = 3  # batches whose count is compared with what training measures
RATIOS = (1, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 9 / 16)
WORDS = (
    "a",
    "red",
    "blue",
    "old",
    "wooden",
    "kite",
    "dog",
    "bottle",
    "of",
    "glass",
    "under",
    "trees",
    "near",
    "evening",
)


@dataclass(frozen=True)
class Row:
    """Tokens of one example: its picture grid, its number of pictures, its prompt."""

    columns: int
    rows: int
    pictures: int
    text: int

    @property
    def tokens(self) -> int:
        return self.columns * self.rows * self.pictures + self.text


def make_samples(folder: Path, count: int) -> list[Sample]:
    """Flat pictures of mixed sizes: only sizes and captions matter here."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        ratio = rng.choice(RATIOS) if rng.random() < 0.7 else 2 ** rng.uniform(-1.5, 1.5)
        area = 10 ** rng.uniform(4.5, 5.7)
        size = (int((area * ratio) ** 0.5), int((area / ratio) ** 0.5))
        file, cutout = folder / f"{number}.png", folder / f"{number}-fg.png"
        Image.new("RGB", size, (90, 120, 150)).save(file, compress_level=1)
        front = Image.new("RGBA", size)
        front.paste((200, 60, 30, 255), (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
        front.save(cutout, compress_level=1)
        foregrounds = int(rng.choice([1, 1, 1, 2, 3]))
        captions = [" ".join(rng.choice(WORDS, rng.integers(3, 21))) for _ in range(foregrounds + 1)]
        samples.append(
            Sample(
                id=str(number),
                foregrounds=(cutout,) * foregrounds,
                background=file,
                composite=file,
                captions=tuple(captions[:-1]),
                background_caption=captions[-1],
            )
        )
    return samples


def row_of(pipeline: OmniAlphaPipeline, example: Example) -> Row:
    """Tokens of an example, as the prompt encoder and the transformer will see it."""
    height, width = example.targets[0].shape[:2]
    profile, processor = pipeline.profile, pipeline.image_processor
    seen = grid_size(width, height, grid=profile.grid, max_area=profile.vlm_area)
    unit = processor.patch_size * processor.merge_size
    vision = int(np.prod([max(1, round(side / unit)) for side in seen])) - 1  # one placeholder is in the text already
    announced = "".join(profile.picture_template.replace("{}", str(k + 1)) for k in range(len(example.inputs)))
    ids = pipeline.tokenizer(profile.prompt_template.replace("{}", announced + example.prompt))["input_ids"]
    text = len(ids) - pipeline.prompt_encoder.prefix_length + vision * len(example.inputs)
    pictures = len(example.inputs) + len(example.targets)
    return Row(width // TOKEN_PIXELS, height // TOKEN_PIXELS, pictures, text)


def padding(batches: list[list[Row]]) -> float:
    """Share of padding among all tokens when each batch is padded to its largest row in every respect."""
    total = used = 0
    for batch in batches:
        columns, rows, pictures, text = (max(getattr(row, name) for row in batch) for name in Row.__annotations__)
        total += len(batch) * (columns * rows * pictures + text)
        used += sum(row.tokens for row in batch)
    return 1 - used / total


def cropped(samples: list[Sample], area: int, grid: int) -> float:
    """Mean share of a picture that the fit into its bucket cuts off."""
    shares = []
    for sample in samples:
        width, height = picture_size(sample.files[0])
        bucket = bucket_size((width, height), area=area, grid=grid)
        ratio = (width / height) / (bucket[0] / bucket[1])
        shares.append(1 - min(ratio, 1 / ratio))
    return float(np.mean(shares))


def main() -> None:
    """Draw, count, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=150)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 256, 512], help="pictures have about side² pixels")
    options = parser.parse_args()

    pipeline = omnialpha.load("nano")
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(Path(folder), options.samples)
        for side in options.sides:
            groups = sample_groups(samples, area=side**2, grid=16)
            drawn: list[list[Row]] = []
            for step in range(options.steps):
                examples = draw_batch(groups, seed=0, step=step, batch_size=options.batch_size)
                drawn.append([row_of(pipeline, example) for example in examples])
                if side == options.sides[0] and step < CHECKED:  # the count is that of training
                    measured = encode(pipeline, examples, [False] * len(examples)).padding
                    assert abs(measured - padding(drawn[-1:])) < 1e-9, (measured, padding(drawn[-1:]))
            stream = [row for batch in drawn for row in batch]
            np.random.default_rng(0).shuffle(stream)
            naive = [stream[start : start + options.batch_size] for start in range(0, len(stream), options.batch_size)]
            results[f"{side} x {side}"] = {
                "padding": round(padding(drawn), 4),
                "padding_naive": round(padding(naive), 4),
                "buckets": len({group.size for group in groups}),
                "mean_share_cropped": round(cropped(samples, side**2, 16), 4),
            }
            print(side, results[f"{side} x {side}"], flush=True)
    record = {
        "command": " ".join(["python", *sys.argv]),
        "batch_size": options.batch_size,
        "tasks": "all 21, uniform",
        "by_size": results,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
