"""The card of a published data set: what is in it, where it comes from, what was left out, and how it was made.

A card is a README.md that begins with YAML, which the hub and `datasets.load_dataset` read.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from huggingface_hub import DatasetCardData

from omnialpha import __version__
from omnialpha.alphalayers.contents import Contents, by_count
from omnialpha.alphalayers.plan import ROLES, Noted
from omnialpha.alphalayers.score import WEIGHT
from omnialpha.alphalayers.shards import features

_BINS = 12
_BAR = 40  # characters
_DESCRIPTIONS = {
    "id": "digest of the foreground's pixels",
    "foreground": "I_fg, RGBA with straight alpha, as it lies in the composite",
    "background": "I_bg, the scene without the foreground",
    "composite": "I_comp, the whole picture",
    "alpha": "the foreground's alpha channel",
    "precise_mask": "255 where alpha > 0.95",
    "trimap": "255 foreground, 0 background, 128 unknown, by a disk of 5 to 10 % of the picture",
    "rough_mask": "the trimap's foreground and unknown band",
    "foreground_caption": "T_fg",
    "background_caption": "T_bg",
    "composite_caption": "T_comp",
    "instruction": "T_rep, what the editing model was told",
    "source": "data set of the foreground",
    "licence": "terms of the foreground, where its data set states them",
    "identity": "the object; no object is in two splits",
    "score": f"S of Eq. 12, {WEIGHT} · foreground_error + {1 - WEIGHT:.1g} · recomposite_error; lower is better",
    "foreground_error": "Eq. 9, the foreground against the composite where alpha > 0.05",
    "recomposite_error": "Eq. 11, foreground over background against the composite",
}


_PARQUET_USAGE = """\
from datasets import load_dataset

samples = load_dataset("path/to/this/folder", split="train")
samples[0]["foreground"]  # a PIL image
"""
_TAR_USAGE = """\
import glob

import webdataset

files = sorted(glob.glob("data/train-*.tar"))
samples = webdataset.WebDataset(files, shardshuffle=False).decode("pilrgba")
next(iter(samples))["foreground.png"]  # a PIL image
"""


def dataset_card(
    contents: Contents,
    record: Mapping[str, Any],
    backends: Mapping[str, Noted],
    *,
    format: str,
    suffix: str,
    download_size: int,
) -> str:
    """Write the card.

    Args:
        contents: What was counted.
        record: What was asked, as `plan.read_plan` returns it.
        backends: Role to backend, as `plan.read_plan` returns it. Of both, folders and addresses stay out of the card.
        format: "parquet" or "webdataset".
        suffix: Of the files in `data/`.
        download_size: Bytes of these files.

    Returns:
        YAML and Markdown.
    """
    splits = [[name, part.samples, len(part.shards)] for name, part in contents.parts.items()]
    plan = {name: value for name, value in record["plan"].items() if name not in ("source", *ROLES)}
    limits, asked = plan.pop("limits"), {"λ": WEIGHT, "entries": record["entries"], **plan}
    parts = [
        f"---\n{_front_matter(contents, format, suffix, download_size)}\n---\n",
        "# AlphaLayers-style triplets\n",
        f"{contents.samples} samples of a transparent foreground, a background and their composite, with captions "
        f"and four masks each, made by omnialpha {__version__} as §3.4 and Appendix B of this paper describe:\n",
        "> OmniAlpha: A Sequence-to-Sequence Framework for Unified Multi-Task RGBA Generation\n",
        _table(["split", "samples", "files"], splits),
        _usage(format),
        "## Columns\n" if format == "parquet" else "## Files of a sample\n\nTexts and numbers are in `json`.\n",
        _table(["name", "type", "what it is"], [[c["name"], c["dtype"], _DESCRIPTIONS[c["name"]]] for c in features()]),
        "## Scores\n\nHow far the layers of a triplet are from each other; 0 is perfect.\n",
        f"```text\n{histogram(contents.scores)}\n```\n",
        "## Sources\n\nThe foregrounds keep the terms under which they were published.\n",
        _table(["source", "licence", "samples"], [[*_named(origin), n] for origin, n in by_count(contents.origins)]),
        "## Left out\n\nCandidates that are not among the samples.\n",
        _table(["stage", "reason", "candidates"], [[*reason, n] for reason, n in by_count(contents.dropped)]),
        "## How it was made\n",
        _table(
            ["role", "settings of its backend"], [[role, _json(known.settings)] for role, known in backends.items()]
        ),
        _table(["setting", "value"], [[name, _json(value)] for name, value in (asked | limits).items()]),
    ]
    return "\n".join(part for part in parts if part)


def histogram(scores: Sequence[float]) -> str:
    """Scores as bars of text.

    Args:
        scores: Any number.

    Returns:
        A line per interval, all of equal width from 0 to the largest score.

    >>> print(histogram([0.0, 0.0, 0.25, 1.0]).splitlines()[0])
    0.0000 – 0.0833      2  ████████████████████████████████████████
    """
    if not scores:
        return "no scores"
    counts, edges = np.histogram(scores, bins=_BINS, range=(0, max(scores) or 1))
    lines = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "█" * round(_BAR * count / counts.max()) or ("▏" if count else "")
        lines.append(f"{low:.4f} – {high:.4f} {count:6d}  {bar}".rstrip())
    median = f"median {np.median(scores):.4f}, best {min(scores):.4f}, worst {max(scores):.4f}"
    return "\n".join([*lines, median])


def _front_matter(contents: Contents, format: str, suffix: str, download_size: int) -> str:
    files = [{"split": split, "path": f"data/{split}-*.{suffix}"} for split in contents.parts]
    known: dict[str, Any] = {
        "pretty_name": "AlphaLayers-style triplets",
        "language": ["en"],
        "license": "other",
        "license_name": "as-stated-per-source",
        "task_categories": ["image-to-image", "image-segmentation", "text-to-image"],
        "tags": ["matting", "rgba", "transparency", "layers"],
        "size_categories": [_size_category(contents.samples)],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    if format == "parquet":  # of tar files `datasets` finds the columns out itself
        known["dataset_info"] = {
            "features": features(),
            "splits": [
                {"name": split, "num_bytes": part.bytes, "num_examples": part.samples}
                for split, part in contents.parts.items()
            ],
            "download_size": download_size,
            "dataset_size": sum(part.bytes for part in contents.parts.values()),
        }
    return DatasetCardData(**known).to_yaml()


def _size_category(samples: int) -> str:
    """The hub's word for a number of samples.

    >>> _size_category(900), _size_category(1000), _size_category(250_000)
    ('n<1K', '1K<n<10K', '100K<n<1M')
    """
    if samples < 1000:
        return "n<1K"
    steps = ["1K", "10K", "100K", "1M", "10M"]
    low = min(len(str(samples)) - 4, len(steps) - 2)
    return f"{steps[low]}<n<{steps[low + 1]}"


def _usage(format: str) -> str:
    return f"```python\n{_PARQUET_USAGE if format == 'parquet' else _TAR_USAGE}```\n"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _named(origin: tuple[str, str]) -> tuple[str, str]:
    source, licence = origin
    return source or "not stated", licence or "not stated"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    if not lines:
        return "None.\n"
    return "\n".join(["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns), *lines, ""])
