"""Quality of the embedded checkpoint against sampling steps: how its defaults were chosen; writes nano_steps.json.

    python benchmarks/nano_steps.py --corpora DIR [--model nano] [--count 100]

Composites as in nano.py, figures of the model alone at its working size scaled up, without refinement: that repairs
most where the model is worst. The table in docs/nano.md is written, too.
"""

import argparse
import json
import sys
from pathlib import Path

from nano import Runner, rounded
from nano_scores import FIGURES
from page import write_table

import omnialpha
from omnialpha.data.scenes import Corpus
from omnialpha.imaging.files import atomic_write

RESULT = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "nano.md"
STEPS = (1, 2, 4, 8)
SHOWN = {  # task to its figure, what it is called, and its decimals
    "matting_auto": ("mad_mean", "automatic matting, MAD", 3),
    "matting_rough_mask": ("mad_mean", "matting with a rough mask, MAD", 3),
    "matting_text": ("iou_mean", "matting by text, IoU", 2),
    "removal_auto": ("gain_inside_object", "removal, gain inside the object, dB", 1),
    "decomposition_auto": ("alpha_soft_iou", "decomposition, soft IoU of alpha", 2),
    "background_to_composite": ("kept_psnr_of_calmer_half", "completion, what was given, dB", 1),
}


def main() -> None:
    """Run every task with every number of steps; write result file and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", type=int, default=256, help="side of the composites, pixels")
    parser.add_argument("--count", type=int, default=100, help="number of composites")
    options = parser.parse_args()
    pipe = omnialpha.load(options.model)
    pipe.set_progress_bar_config(disable=True)
    corpora = {split: Corpus(options.corpora, split) for split in ("train", "test")}
    figures: dict[str, dict[int, float]] = {task: {} for task in SHOWN}
    for steps in STEPS:
        runner = Runner(corpora=corpora, size=options.size, count=options.count, steps=steps, refined=False)
        for task, (figure, _, _) in SHOWN.items():
            results, _ = runner.model(pipe, task)
            answers = [(result.example, result.scene, result.raw) for result in results]
            figures[task][steps] = FIGURES[task](answers, corpora["train"])[1][figure]
    result = {
        "command": " ".join(["python", *["DIR" if a.startswith("/") else a for a in sys.argv]]),
        "count": options.count,
        "size": options.size,
        "defaults": {task: pipe.profile.task_steps.get(task, pipe.profile.steps) for task in SHOWN},
        "figures": rounded(figures),
    }
    with atomic_write(RESULT, overwrite=True) as path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    rows = [
        [name, *(f"{figures[task][steps]:.{digits}f}" for steps in STEPS)] for task, (_, name, digits) in SHOWN.items()
    ]
    write_table("nano_steps", [["sampling steps", *map(str, STEPS)], *rows], PAGE)


if __name__ == "__main__":
    main()
