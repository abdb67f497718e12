"""Write held-out composites of the package corpora as a manifest that `omnialpha eval alphalayers_test` reads.

    python -m omnialpha.data.corpora corpora
    python benchmarks/held_out_composites.py --corpora corpora --out composites
    omnialpha eval alphalayers_test composites/manifest.jsonl --model nano -o report

It measures nothing itself; what the last line made is docs/reports/nano_composites.

Objects and scenes come from the test split, which training never saw; the drawing is seeded, so the same corpora give
the same files. Every fourth scene has two foregrounds.
"""

import argparse
from pathlib import Path

import numpy as np

from omnialpha.data.manifest import Sample, write_manifest
from omnialpha.data.scenes import Corpus, Scene, draw_scene
from omnialpha.imaging.rgba import save_png, to_pil

SEED = 20_000


def write_scene(scene: Scene, name: str, folder: Path) -> Sample:
    """Save the layers of a scene and return its line of the manifest."""
    pictures = {f"{name}_fg{k}.png": layer for k, layer in enumerate(scene.foregrounds)}
    background = f"{name}_bg.png"
    assert scene.background is not None  # drawn scenes have one
    for file, layer in (*pictures.items(), (background, scene.background)):
        save_png(to_pil(layer), folder / file, overwrite=True)
    return Sample(
        id=name,
        foregrounds=tuple(folder / file for file in pictures),
        background=folder / background,
        captions=scene.captions,
        background_caption=scene.background_caption,
        composite_caption=scene.composite_caption,
        split="test",
        source="package corpora, test split",
    )


def main() -> None:
    """Draw the scenes and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24, help="number of composites")
    parser.add_argument("--size", type=int, default=96, help="side of the composites, pixels")
    options = parser.parse_args()
    corpus = Corpus(options.corpora, "test")
    samples = []
    for number in range(options.count):
        scene = draw_scene(corpus, np.random.default_rng([SEED, number]), options.size, 2 if number % 4 == 3 else 1)
        samples.append(write_scene(scene, f"{number:03}", options.out))
    write_manifest(samples, options.out / "manifest.jsonl")


if __name__ == "__main__":
    main()
