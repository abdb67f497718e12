"""results.json: every setting, version and hash of a run, its means with the number of images behind each, every image.

Means are over the images that could be scored; the rest is listed with its reason. `settings.rules.size` says whether
tables show the scores at the targets' size ("native") or at the size at which predictions were made ("generation").
"""

import hashlib
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from omnialpha.errors import InputError
from omnialpha.evaluation.accumulate import Mean
from omnialpha.evaluation.cases import Case, data_hash
from omnialpha.evaluation.harness import (
    METHOD_FILE,
    Record,
    read_json,
    read_record,
    saved_predictions,
    to_json,
    write_json,
)
from omnialpha.evaluation.plan import Plan
from omnialpha.evaluation.predictions import read_prediction
from omnialpha.evaluation.scoring import Networks, Prediction, set_scores

Results = dict[str, Any]

FORMAT = 1
_PACKAGES = ("omnialpha", "numpy", "scipy", "pillow", "torch", "diffusers", "transformers")
_PRIMARY = {"matte": "mad", "cutout": "mad", "picture": "psnr", "layers": "cost@0", "generated": "clip_score"}
_NEEDS: dict[str, dict[str, tuple[str, ...]]] = {
    "picture": {"lpips": ("lpips", "lpips_backbone"), "fid": ("inception",), "clip_fid": ("clip",)},
    "generated": {"fid": ("inception",), "clip_fid": ("clip",), "clip_score": ("clip",)},
}


def collect(plan: Plan, out: Path) -> Results:
    """Gather the records of a finished run and write results.json.

    Args:
        plan: The run.
        out: Its output folder.

    Returns:
        What results.json holds.

    Raises:
        InputError: A case has no record: the run, or one of its shards, is not finished.
    """
    records: list[Record] = []
    for case in plan.cases:
        record = read_record(out, case)
        if record is None:
            raise InputError(f"{out}: {case.name} has no record; finish the run, all of its shards")
        records.append(record)
    scored = [record for record in records if record["status"] == "scored"]
    results = {
        "format": FORMAT,
        "benchmark": plan.benchmark,
        "method": _method(plan, out),
        "settings": plan.settings(),
        "versions": _versions(),
        "hashes": {"data": data_hash(plan.cases), **_network_hashes(plan.networks)},
        "counts": {
            "cases": len(records),
            "scored": len(scored),
            "failed": len(records) - len(scored),
            "left_out_by_limit": len(plan.all_cases) - len(records),
        },
        "tasks": _tasks(plan, out, records),
        "not_computed": _not_computed(plan),
        "conversions": dict(sorted(Counter(note for record in scored for note in record["conversions"]).items())),
        "failures": [{key: r[key] for key in ("task", "id", "error")} for r in records if r["status"] == "failed"],
        "extra_files": _extra_files(plan, out),
        "images": records,
    }
    write_json(results, out / "results.json")
    return results


def read_results(file: Path) -> Results:
    """Read a results.json.

    Raises:
        InputError: It is missing, damaged, or of another format.
    """
    file = file / "results.json" if file.is_dir() else file
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a results.json that `omnialpha eval` wrote")
    results = read_json(file)
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise InputError(f"{file}: is no results.json of format {FORMAT}; run the benchmark again")
    return results


def shown_values(record: Record, size: str) -> dict[str, float]:
    """The values of an image at a size; those at the native one where it was made at that.

    >>> record = {"values": {"native": {"psnr": "Infinity"}}}
    >>> shown_values(record, "generation")
    {'psnr': inf}
    """
    values = record["values"].get(size, record["values"]["native"])
    return {name: float(value) for name, value in values.items()}


def means(records: Iterable[Record], size: str) -> dict[str, dict[str, Any]]:
    """Mean and count of every metric over the records that were scored, at one size."""
    mean = Mean()
    for record in records:
        if record["status"] == "scored":
            mean.update(shown_values(record, size))
    return {name: {"mean": to_json(value), "count": mean.counts[name]} for name, value in mean.compute().items()}


def _tasks(plan: Plan, out: Path, records: Sequence[Record]) -> dict[str, Any]:
    tasks = {}
    for task in dict.fromkeys(case.task for case in plan.cases):
        pairs = [(case, record) for case, record in zip(plan.cases, records, strict=True) if case.task == task]
        kind = pairs[0][0].kind
        done = [(case, record) for case, record in pairs if record["status"] == "scored"]
        sizes = {"native": means((record for _, record in done), "native")}
        if any("generation" in record["values"] for _, record in done):
            sizes["generation"] = means((record for _, record in done), "generation")
        tasks[task] = {
            "kind": kind,
            "cases": len(pairs),
            "scored": len(done),
            "failed": len(pairs) - len(done),
            "sorted_by": _PRIMARY[kind],
            "median_size": {name: _median_size([record[f"{name}_size"] for _, record in done]) for name in sizes},
            "means": sizes,
            "set": set_scores(_pairs(plan, out, [case for case, _ in done]), kind, plan.networks),
        }
    return tasks


def _median_size(sizes: Sequence[list[int] | None]) -> list[int]:
    """Median width and median height; empty where no image has a size."""
    known = [size for size in sizes if size is not None]
    return [int(side) for side in np.median(known, axis=0)] if known else []


def _pairs(plan: Plan, out: Path, cases: Iterable[Case]) -> Iterable[tuple[Prediction, np.ndarray | None]]:
    """Predictions and targets, read again one after the other: features are not kept between runs."""
    saved = saved_predictions(plan, out)
    for case in cases:
        target = case.read(lambda note: None).target
        prediction = read_prediction(saved.find(case), case, lambda note: None)
        yield prediction, target if isinstance(target, np.ndarray) else None


def _not_computed(plan: Plan) -> dict[str, str]:
    """Metrics of the benchmark that were left out, and the options that would bring them."""
    left_out = {}
    for kind in {str(case.kind) for case in plan.cases}:
        for metric, options in _NEEDS.get(kind, {}).items():
            if any(getattr(plan.networks, option) is None for option in options):
                left_out[metric] = "needs " + " and ".join(f"--{option.replace('_', '-')}" for option in options)
    return dict(sorted(left_out.items()))


def _method(plan: Plan, out: Path) -> dict[str, Any]:
    """What made the predictions, as noted beside them."""
    folder = plan.source.predictions
    file = (folder or out / "predictions") / METHOD_FILE
    if file.is_file():
        described: dict[str, Any] = read_json(file)
        return described
    return {"name": folder.name if folder is not None else str(plan.source.method or plan.source.model), "settings": {}}


def _extra_files(plan: Plan, out: Path) -> list[str]:
    return [name for name in saved_predictions(plan, out).extra(plan.all_cases) if name != METHOD_FILE]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


def _network_hashes(networks: Networks) -> dict[str, str]:
    """SHA-256 of the weights behind the metrics, the first 16 digits."""
    hashes = {}
    for name in ("inception", "clip", "lpips", "lpips_backbone"):
        path: Path | None = getattr(networks, name)
        if path is not None:
            files = sorted(path.glob("*.safetensors")) + sorted(path.glob("*.bin")) if path.is_dir() else [path]
            digest = hashlib.sha256()
            for file in files:
                digest.update(file.read_bytes())
            hashes[name] = digest.hexdigest()[:16]
    return hashes
