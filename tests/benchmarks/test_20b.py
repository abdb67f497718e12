"""The 20B benchmark on its tiny scale: shapes, equality with stock, figures; a slow test tries the whole script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_20b import Bench
from gpu_20b import LAYOUTS, VARIANTS, make_parts, summary
from model_20b import TINY, components, our_pipeline
from shapes_20b import check_shapes

CPU = torch.device("cpu")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_20b.py"


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(TINY, CPU)


def test_every_stage_fits_the_next_on_meta_tensors() -> None:
    found = check_shapes(TINY, LAYOUTS)
    one, four = found["layouts"]["1→1"], found["layouts"]["1→4"]
    tokens = (TINY.side // 16) ** 2
    assert (one["image_tokens"], four["image_tokens"]) == (2 * tokens, 5 * tokens)
    assert [stage["name"] for stage in one["stages"]] == ["vision", "words", "encode", "denoise", "decode"]
    decode = {name: layout["stages"][-1]["tflop"] for name, layout in found["layouts"].items()}
    assert decode["1→4"] == pytest.approx(4 * decode["1→1"], rel=0.01)
    assert found["parameters"]["transformer"] == sum(w.numel() for w in Bench(TINY, CPU).parts.transformer.parameters())


def test_weights_are_filled_and_what_is_done_to_a_pipeline_does_not_reach_them() -> None:
    parts = components(TINY, CPU, torch.float32)
    weights = [w for module in (parts.transformer, parts.vae, parts.text_encoder) for w in module.parameters()]
    assert all(weight.device.type == "cpu" and weight.isfinite().all() for weight in weights)
    pipe = our_pipeline(parts)
    theirs, ours = parts.transformer.proj_out, pipe.transformer.proj_out
    assert ours.weight.data_ptr() == theirs.weight.data_ptr()  # no second copy
    pipe.transformer.to(torch.float16)
    assert theirs.weight.dtype == torch.float32


def test_stock_and_ours_give_the_same_layers_and_both_tell_time_and_use(bench: Bench) -> None:
    bench.measure_ceiling()
    stock = bench.measure_stock(4, 2)
    ours = bench.measure_ours("ours", VARIANTS["ours"], 4, 2)
    assert ours["mean_difference_to_stock"] < 1e-4
    for figures in (stock, ours):
        assert figures["extrapolated_to_steps"] == TINY.steps
        assert figures["seconds"] > figures["seconds_per_step"] * TINY.steps
        assert 0 < figures["mfu"] < 1.5
        assert all(seconds > 0 for seconds in figures["seconds_in"].values())


def test_parts_are_named_once_and_begin_with_what_the_others_need(bench: Bench) -> None:
    names = [part.name for part in make_parts(bench)]
    assert len(set(names)) == len(names)
    assert names[:3] == ["weights", "ceiling", "stock 1→1"]
    within_ten_minutes = 0.0
    for part in make_parts(bench):
        within_ten_minutes += part.seconds
        if part.name == "ours 1→4":
            break
    assert within_ten_minutes < 540


def test_the_summary_compares_what_was_measured() -> None:
    parts: dict[str, dict[str, Any]] = {
        "stock 1→1": {"seconds": 10.0, "mfu": 0.3},
        "ours 1→1": {"seconds": 5.0, "mfu": 0.6},
        "ours 1→4": {"seconds": 7.0, "mfu": 0.5},
        "ours compiled 1→1": {"failed": "RuntimeError: no compiler"},
    }
    found = summary(parts)
    assert found["1→1"]["times_faster_than_stock"] == {"ours": 2.0}
    assert found["1→1"]["mfu"] == {"stock": 0.3, "ours": 0.6, "ours compiled": None}
    assert "1→4" not in found  # without stock there is nothing to compare with


@pytest.mark.slow
def test_the_whole_script_runs_on_its_tiny_scale(tmp_path: Path) -> None:
    result = tmp_path / "trial.json"
    subprocess.run([sys.executable, SCRIPT, "--scale", "tiny", "--result", result], check=True, timeout=600)
    parts = json.loads(result.read_text())["parts"]
    assert {part.name for part in make_parts(Bench(TINY, CPU))} == set(parts)
    assert not [name for name, figures in parts.items() if {"failed", "left_out"} & figures.keys()]
