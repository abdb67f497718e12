"""The rival of the end-to-end figures gives the same layers as ours, so that a comparison of their times is fair."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_20b import TINY, components, our_pipeline, picture, stock_pipeline

from omnialpha.models.profile import PAPER
from omnialpha.models.rope import LayerOrder
from omnialpha.tasks import task

SIDE = 128  # the stock text begins at half the side in tokens, which must lie behind the three pictures


@pytest.mark.parametrize("order", ["paper", "released"])
def test_the_stock_pipeline_gives_the_same_layers(order: LayerOrder) -> None:
    parts = components(TINY, torch.device("cpu"), torch.float32)
    rival, ours = stock_pipeline(parts), our_pipeline(parts)
    ours.profile = replace(PAPER, layer_order=order)
    noise_LSC = torch.randn(2, (SIDE // 16) ** 2, 64, generator=torch.Generator().manual_seed(0))
    prompt = task("decomposition_auto").prompt(None)
    expected = rival([picture(SIDE)], prompt, noise_LSC, steps=3, true_cfg_scale=4.0)
    received = ours(
        task="decomposition_auto",
        images=[picture(SIDE)],
        num_inference_steps=3,
        true_cfg_scale=4.0,
        latents=(noise_LSC.flip(0) if order == "paper" else noise_LSC).flatten(0, 1).unsqueeze(0),
        output_type="pt",
    ).images[0]
    assert expected.shape == (2, 4, SIDE, SIDE)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    torch.testing.assert_close(received, expected, atol=1e-3, rtol=0)
