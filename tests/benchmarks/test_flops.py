"""The formula of a transformer call's operations, held against torch's counter."""

from __future__ import annotations

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import QwenImageTransformer2DModel
from flops import counted, transformer_flops
from torch import nn

import tiny


def test_the_counter_counts_two_operations_for_each_multiplication() -> None:
    layer = nn.Linear(3, 5, device="meta")
    assert counted(lambda: layer(torch.empty(7, 3, device="meta"))) == 2 * 7 * 3 * 5


def test_attention_on_the_cpu_is_counted() -> None:
    q = torch.zeros(1, 3, 16, 8)  # (batch, heads, tokens, channels)
    flops = counted(lambda: nn.functional.scaled_dot_product_attention(q, q, q))
    assert flops == 2 * 2 * 3 * 16 * 16 * 8


@pytest.mark.parametrize("full_width", [True, False])
@pytest.mark.parametrize(("batch", "pictures", "text_tokens"), [(1, 2, 100), (2, 5, 31)])
def test_the_formula_agrees_with_the_counter(full_width: bool, batch: int, pictures: int, text_tokens: int) -> None:
    with init_empty_weights():
        model = QwenImageTransformer2DModel(num_layers=2) if full_width else tiny.transformer()
    transformer = model.to("meta")
    config = transformer.config
    tokens = pictures * 16 * 8
    x_BSC = torch.empty(batch, tokens, config.in_channels, device="meta")
    embeds_BTD = torch.empty(batch, text_tokens, config.joint_attention_dim, device="meta")

    def call() -> None:
        transformer(
            hidden_states=x_BSC,
            timestep=torch.empty(batch, device="meta"),
            encoder_hidden_states=embeds_BTD,
            img_shapes=[[(1, 16, 8)] * pictures] * batch,
        )

    with torch.no_grad():
        by_torch = counted(call)
    formula = transformer_flops(config, image_tokens=tokens, text_tokens=text_tokens, batch=batch)
    assert formula == pytest.approx(by_torch, rel=0.01)
