"""Floating-point operations of a model's parts: counted from the architecture, or by torch while it runs.

A multiplication and an addition are two operations; element-wise work, norms and softmax are left out, as is usual for
model FLOP utilisation. `tests/benchmarks/test_flops.py` holds the formula against torch's counter on meta tensors.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

MLP_RATIO = 4  # width of the hidden layer of the blocks' MLPs, of the model's width
TIME_CHANNELS = 256  # of the sinusoidal embedding of the noise level


def transformer_flops(config: Mapping[str, Any], *, image_tokens: int, text_tokens: int, batch: int = 1) -> int:
    """Operations of one call of a `QwenImageTransformer2DModel`.

    Args:
        config: of the model.
        image_tokens: S, of all targets and inputs of one row.
        text_tokens: T of one row.
        batch: rows.
    """
    d = config["num_attention_heads"] * config["attention_head_dim"]
    S, T = image_tokens, text_tokens
    per_token = 2 * d * d * (3 + 1 + 2 * MLP_RATIO)  # q, k, v; out; MLP up and down
    attention = 2 * 2 * (S + T) ** 2 * d  # scores, weighted sum
    modulation = 2 * 2 * d * 6 * d  # both streams, once a row
    blocks = config["num_layers"] * ((S + T) * per_token + attention + modulation)
    patch_values = 4 * (config["out_channels"] or config["in_channels"])
    ends = 2 * d * (S * config["in_channels"] + T * config["joint_attention_dim"] + S * patch_values)
    conditioning = 2 * d * (TIME_CHANNELS + d) + 2 * d * 2 * d  # noise level; modulation of the last norm
    return batch * (blocks + ends + conditioning)


def counted(call: Callable[[], object]) -> int:
    """Operations that torch counts while `call` runs."""
    with counter() as operations:
        call()
    return operations.get_total_flops()


def counter() -> FlopCounterMode:
    """Torch's counter, taught the attention kernel of the CPU, which it does not know."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={kernel: _attention_flops})


def _attention_flops(
    query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    return sdpa_flop_count(query, key, value)
