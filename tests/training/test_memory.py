"""The memory plan: parameters as published, proportions that must hold, the file in benchmarks/ up to date."""

import dataclasses
import json
from pathlib import Path

import pytest

from omnialpha.training.memory import Load, activation_bytes, plan, table
from omnialpha.training.recipes import lora_single_gpu, paper_dit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plans():
    return table()


def test_the_file_holds_what_is_reckoned(plans) -> None:
    assert json.loads((ROOT / "benchmarks" / "train_memory.json").read_text())["plans"] == plans


def test_parameters_are_those_of_the_base_and_its_adapter(plans) -> None:
    full, lora, *_, single = plans.values()
    assert full["trained"] == pytest.approx(20_430, rel=1e-3)  # the model card's 20B
    # Per block: eight square layers and two MLPs of width 3072 to 12288 and back, each with two factors of the rank.
    per_rank = 60 * (8 * 2 * 3072 + 4 * (3072 + 4 * 3072)) / 1e6
    assert lora["trained"] == pytest.approx(256 * per_rank, abs=0.01)
    assert single["trained"] == pytest.approx(32 * per_rank, abs=0.01)
    assert full["optimizer"] == pytest.approx(8 * full["trained"] / 1000, rel=1e-3)


def test_the_single_gpu_recipe_fits_24_gb(plans) -> None:
    assert plans["4-bit LoRA 32, 512², cached (lora_single_gpu)"]["total"] < 24


def test_recomputation_and_smaller_pictures_save_activations() -> None:
    config = dataclasses.replace(paper_dit(), lora_rank=0)
    kept = dataclasses.replace(config, checkpointing=False)
    small, large = Load(size=256, text_tokens=64), Load(size=512, text_tokens=256)
    assert activation_bytes(kept, small) > 10 * activation_bytes(config, small)
    assert activation_bytes(config, large) == pytest.approx(4 * activation_bytes(config, small), rel=0.02)


def test_a_cache_spares_vae_and_vlm() -> None:
    load, config = Load(size=256), lora_single_gpu()
    difference = plan(config, load, cached=False).total - plan(config, load, cached=True).total
    assert difference == pytest.approx(2 * 8.4, rel=0.03)  # Qwen2.5-VL-7B has 8.3 billion parameters, the VAE 0.13
