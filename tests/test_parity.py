"""The same numbers as the authors' software, on the small model in the released layout (shared/fixtures).

`golden.npz` was made with that software: `plain_*` without LoRA, `lora_*` with; `*_pe` prompt embeddings, `*_latout`
final latents, `*_out` images. Set OMNIALPHA_FIXTURES to the folder that holds `released_layout`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import omnialpha
from omnialpha.pipeline import OmniAlphaPipeline

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("OMNIALPHA_FIXTURES", ROOT.parent / "shared" / "fixtures")) / "released_layout"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the released-layout fixture is not here")

CASES = ("t2i", "matte", "decompose2", "remove")
LATENT_TOLERANCE = 2e-4
IMAGE_TOLERANCE = 2e-3


@pytest.fixture(scope="module", params=["plain", "lora"])
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pipe(variant: str, tmp_path_factory: pytest.TempPathFactory) -> OmniAlphaPipeline:
    adapter = FOLDER / "omnialpha"
    if variant == "plain":  # an adapter folder may hold rgba_vae alone
        adapter = tmp_path_factory.mktemp("adapter")
        (adapter / "rgba_vae").symlink_to(FOLDER / "omnialpha" / "rgba_vae")
    pipe = omnialpha.load(FOLDER / "base", adapter=adapter, device="cpu", dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "golden.npz") as arrays:
        return dict(arrays)


def call(pipe: OmniAlphaPipeline, golden: dict[str, np.ndarray], case: str, **options: Any) -> Any:
    settings = json.loads((FOLDER / "cases.json").read_text())
    this = settings["cases"][case]
    return pipe(
        prompt=this["prompt"],
        negative_prompt="",
        images=[Image.open(FOLDER / f"{case}_in{k}.png") for k in range(this["inputs"])],
        num_targets=this["targets"],
        height=settings["height"],
        width=settings["width"],
        num_inference_steps=settings["steps"],
        true_cfg_scale=settings["true_cfg_scale"],
        latents=torch.from_numpy(golden[f"{case}_lat"]),
        **options,
    ).images


def assert_close(received: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert received.shape == expected.shape
    assert np.abs(received - expected).max() <= tolerance


@pytest.mark.parametrize("case", CASES)
def test_embeddings_and_latents(
    pipe: OmniAlphaPipeline, golden: dict[str, np.ndarray], variant: str, case: str
) -> None:
    seen = {}

    def keep(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.update(tensors)
        return {}

    latents = call(
        pipe,
        golden,
        case,
        output_type="latent",
        callback_on_step_end=keep,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    assert_close(seen["prompt_embeds"].numpy(), golden[f"{variant}_{case}_pe"], LATENT_TOLERANCE)
    assert_close(latents.numpy(), golden[f"{variant}_{case}_latout"], LATENT_TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_images(pipe: OmniAlphaPipeline, golden: dict[str, np.ndarray], variant: str, case: str) -> None:
    images = call(pipe, golden, case, output_type="np")
    assert_close(images[0], golden[f"{variant}_{case}_out"], IMAGE_TOLERANCE)


def test_the_adapter_matters(golden: dict[str, np.ndarray]) -> None:
    """The two sets of golden numbers differ far more than the tolerance, so the tests above tell them apart."""
    for case in CASES:
        assert np.abs(golden[f"plain_{case}_latout"] - golden[f"lora_{case}_latout"]).max() > 0.1
