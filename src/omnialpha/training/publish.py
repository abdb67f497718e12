"""Turn a trained run into the embedded checkpoint: float16 weights and a model card written from the run's files."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from omnialpha.errors import CheckpointError
from omnialpha.imaging.files import atomic_folder
from omnialpha.pipeline import OmniAlphaPipeline

LIMIT_MB = 60
CARD = "README.md"


def publish(run: Path, out: Path, *, earlier: list[Path], corpora: Path) -> None:
    """Save a run's pipeline in float16 with a model card.

    Args:
        run: folder of the last stage, with `pipeline/`, `config.json` and `log.jsonl`.
        out: the checkpoint folder; replaced when it exists.
        earlier: run folders of the stages before, first to last; a published checkpoint stands for its own stages.
        corpora: the prepared corpora that the stages were trained on.

    Raises:
        CheckpointError: the result is larger than a package may carry.
    """
    pipeline = OmniAlphaPipeline.from_pretrained(run / "pipeline", dtype=torch.float16)
    records = [json.loads(line) for line in (corpora / "index.jsonl").read_text().splitlines()]
    if out.exists():
        shutil.rmtree(out)
    with atomic_folder(out) as temporary:
        pipeline.save_pretrained(temporary)
        forget_origin(temporary)
        size = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file()) / 1e6
        if size > LIMIT_MB:
            raise CheckpointError(f"{run}: {size:.0f} MB in float16, more than {LIMIT_MB} MB; train a smaller model.")
        (temporary / CARD).write_text(model_card(pipeline, [*earlier, run], records, size))


def forget_origin(folder: Path) -> None:
    """Take the folder that a model was loaded from, `_name_or_path`, out of its configuration files."""
    for file in folder.rglob("*.json"):
        config = json.loads(file.read_text())
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2) + "\n")


def model_card(pipeline: OmniAlphaPipeline, runs: list[Path], records: list[dict[str, Any]], size_mb: float) -> str:
    """The model card: what it is, what it was trained on, how, and where its scores and limits are."""
    parts = {
        name: sum(weight.numel() for weight in getattr(pipeline, name).parameters()) / 1e6
        for name in ("vae", "text_encoder", "transformer")
    }
    sources = Counter((r["kind"], r["source"], r["licence"], r["split"]) for r in records)
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: omnialpha",
        "---",
        "",
        '# OmniAlpha "nano"',
        "",
        "The embedded checkpoint of omnialpha: the classes of the full-size model in small, trained from scratch on",
        "CPU cores by the code in `src/omnialpha/training`. It runs all 21 tasks on a laptop; it is a small model with",
        "small abilities, meant for trying the toolkit, for tests and for teaching.",
        "",
        "| part | million parameters |",
        "|---|---|",
        *[f"| {name} | {count:.2f} |" for name, count in parts.items()],
        "",
        f"Size on disk: {size_mb:.1f} MB (float16).",
        "",
        "## Training data",
        "",
        "Cut-outs from package registries composited over photographs while training; objects and scenes of the test",
        "split were never trained on. No picture is redistributed here; GPL sources are fetched when training.",
        "",
        "| kind | source | licence | split | pictures |",
        "|---|---|---|---|---|",
        *[f"| {' | '.join(key)} | {count} |" for key, count in sorted(sources.items())],
        "",
        "## Training",
        "",
        "| stage | steps | settings | last logged |",
        "|---|---|---|---|",
        *[row for run in runs for row in _training_rows(run)],
        "",
        "Every stage draws its pictures, noise and wordings from generators seeded by (seed, step).",
        "",
        "## Scores",
        "",
        "`benchmarks/nano.json`, written by `benchmarks/nano.py` on held-out objects over held-out scenes, with the",
        "best constant alpha and the unchanged input beside it; pictures, worst ones included, in",
        "`docs/images/nano_scores.png`.",
        "",
        "## Limits",
        "",
        "- It knows clip-art, renders and a few hundred photographs of single objects over landscapes: people, hair,",
        "  glass and smoke were not in its training data.",
        "- It works at small sizes (its working area is in `model_index.json`); larger pictures are scaled down",
        "  for the model, and its results scaled up again.",
        "- Text to image and completion give rough shapes and colours of the object named, not a likeness.",
        "- Colours and fine texture are bounded by its VAE (round trip in the scores).",
        "",
    ]
    return "\n".join(lines)


def _training_rows(run: Path) -> list[str]:
    """The table's rows of a run, or of all runs that a published checkpoint's card names."""
    card = run / CARD
    if card.exists():
        training = card.read_text().split("## Training\n")[1].split("\n## ")[0]
        return [line for line in training.splitlines() if line.startswith("|")][2:]
    return [_run_row(run)]


def _run_row(run: Path) -> str:
    config = json.loads((run / "config.json").read_text())
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    shown = ", ".join(f"{key} {value}" for key, value in config.items() if key not in ("save_every", "log_every"))
    logged = ", ".join(f"{key} {value:.4g}" for key, value in last.items())
    return f"| {run.name} | {last['step']} | {shown} | {logged} |"
