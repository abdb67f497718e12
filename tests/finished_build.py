"""A finished build as `omnialpha data build` leaves it, made by hand from drawn pictures: for those who read builds."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from omnialpha.alphalayers.score import score
from omnialpha.alphalayers.store import Question, Store
from omnialpha.data.manifest import Sample, write_manifest
from omnialpha.imaging import masks, rgba


def make_build(out: Path, samples: int = 6, side: int = 24) -> Path:
    """Every third sample is in the test split; scores rise with the number; two candidates were dropped."""
    store, lines = Store(out / "store"), []
    for number in range(samples):
        name = f"{number:032x}"
        rng = np.random.default_rng(number)
        foreground, background, composite = _layers(rng, side, error=number / 50)
        instruct = Question(stage="instruct", version=1, settings={"model": "vlm"}, inputs={"id": name})
        edit = Question(stage="edit", version=1, settings={"steps": 40}, inputs={"id": name})
        scored = Question(stage="score", version=1, inputs={"id": name})
        instruction = f"Replace the background with scene {number}, \u2028 a < b & c."
        store.put(instruct, {"values": {"instruction": instruction}, "pictures": []}, backend="endpoint:there#vlm")
        store.put(edit, {"values": {}, "pictures": ["composite"]}, backend="diffusers:editor")
        _save(composite, store.picture("edit", edit.key, "composite"))
        found = score(*(rgba.to_array(image) for image in (foreground, background, composite)))
        errors = {"foreground_error": found.foreground, "recomposite_error": found.recomposite}
        store.put(scored, {"values": {"score": found.total, **errors}, "pictures": []})
        files = {kind: out / "store" / kind / f"{name}.png" for kind in ("foreground", "background")}
        for image, file in zip((foreground, background), files.values(), strict=True):
            _save(image, file)
        for kind, mask in _masks(foreground, number).items():
            _save(Image.fromarray(mask), out / "masks" / name / f"{kind}.png")
        lines.append(
            Sample(
                id=name,
                foregrounds=(files["foreground"],),
                background=files["background"],
                composite=store.picture("edit", edit.key, "composite"),
                captions=(f"a blob, number {number}",),
                background_caption="a plain wall",
                composite_caption='a blob on a wall </script><b id="injected">',
                split="test" if number % 3 == 2 else "train",
                source="drawn" if number % 2 else "painted",
                licence="CC0-1.0",
                score=found.total,
                identity=f"drawn/{number}",
                stages={"instruct": instruct.key, "edit": edit.key, "score": scored.key},
            )
        )
    write_manifest(lines, out / "manifest.jsonl")
    plan = {"source": str(out.parent), "editor": "diffusers:/home/me/editor", "seed": 3, "limits": {"distance": 4}}
    editor = {"name": "diffusers:/home/me/editor", "settings": {"kind": "diffusers", "steps": 40}}
    (out / "build.json").write_text(json.dumps({"plan": plan, "entries": samples + 2, "backends": {"editor": editor}}))
    dropped = [("a", "filter", "dropped", "too small: 9 pixels, at least 64"), ("b", "edit", "failed", "OSError: gone")]
    (out / "dropped.jsonl").write_text(
        "".join(
            json.dumps({"id": i, "name": i, "stage": stage, "kind": kind, "reason": reason}) + "\n"
            for i, stage, kind, reason in dropped
        )
    )
    return out


def _save(image: Image.Image, file: Path) -> None:
    """Without waiting for the disk, which takes most of the time of an atomic writer."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


def _layers(rng: np.random.Generator, side: int, error: float) -> list[Image.Image]:
    """A soft blob on a gradient; the composite is off by `error` everywhere."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    alpha = np.clip((0.4 - np.hypot(x - rng.uniform(0.4, 0.6), y - 0.5)) * 6, 0, 1)[..., None]
    blob = np.broadcast_to(rng.random(3), (side, side, 3)) * (alpha > 0)
    wall = np.broadcast_to(rng.random(3) * 0.5, (side, side, 3)) * (0.5 + 0.5 * x[..., None])
    composite = np.clip(blob * alpha + wall * (1 - alpha) + error, 0, 1)
    return [rgba.to_pil(array) for array in (np.dstack([blob, alpha]), wall, composite)]


def _masks(foreground: Image.Image, seed: int) -> dict[str, np.ndarray]:
    alpha = np.asarray(foreground.getchannel("A"))
    trimap = masks.trimap(alpha, generator=np.random.default_rng(seed))
    precise, rough = masks.precise_mask(alpha), masks.rough_mask(trimap)
    return {"alpha": alpha, "precise": precise, "trimap": trimap, "rough": rough}
