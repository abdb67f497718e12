"""A small prepared corpus in the layout of `omnialpha.data.corpora`: soft shapes and gradients, drawn with NumPy."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def make_corpus(folder: Path, cutouts: int = 6, backdrops: int = 4) -> Path:
    """Write cut-outs, backgrounds and index.jsonl; every third picture is in the test split."""
    rng = np.random.default_rng(0)
    records = []
    y, x = np.mgrid[0:64, 0:64] / 63
    for kind, count in (("foreground", cutouts), ("background", backdrops)):
        (folder / f"{kind}s").mkdir(parents=True)
        for i in range(count):
            colour = np.broadcast_to(rng.random(3), (64, 64, 3)) * (0.5 + 0.5 * x[..., None])
            if kind == "foreground":
                radius = np.hypot(x - 0.5, (y - 0.5) * rng.uniform(1, 1.6))
                alpha = np.clip((0.45 - radius) * 12, 0, 1)
                pixels = np.dstack([colour * (alpha[..., None] > 0), alpha])
            else:
                pixels = colour
            path = f"{kind}s/{i}.png"
            Image.fromarray((pixels * 255).round().astype(np.uint8)).save(folder / path)
            name = f"{kind} {i}"
            split = "test" if i % 3 == 2 else "train"
            common = {"caption": f"a {name}", "object": name, "source": "tests", "licence": "CC0-1.0"}
            records.append({"id": name, "kind": kind, "path": path, "split": split, "photographic": i == 0} | common)
    (folder / "index.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder
