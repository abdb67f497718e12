"""Compilation of the blocks: everything in one graph, and no second time for other layers or sizes."""

from __future__ import annotations

import pytest
import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import tiny
from omnialpha.models.compiling import compile_blocks
from omnialpha.models.denoiser import Denoiser
from omnialpha.models.transformer import layer_shapes, with_layer_positions

GRAPHS = 3
"""First block, middle blocks, last block."""


def model() -> QwenImageTransformer2DModel:
    torch.manual_seed(0)
    return with_layer_positions(
        QwenImageTransformer2DModel(
            num_layers=4,
            num_attention_heads=2,
            attention_head_dim=16,
            joint_attention_dim=tiny.HIDDEN,
            axes_dims_rope=(4, 6, 6),
        ).eval()
    )


@torch.no_grad()
def guided(transformer: QwenImageTransformer2DModel, grid: tuple[int, int], m: int, n: int, words: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = grid[0] * grid[1]
    targets, inputs = (torch.randn(1, k * tokens, 64, generator=generator) for k in (m, n))
    positive, negative = (torch.randn(1, length, tiny.HIDDEN, generator=generator) for length in (words, 5))
    denoise = Denoiser(
        transformer,
        inputs,
        layer_shapes(grid, m, [grid] * n, "paper"),
        torch.tensor([0.8, 0.4]),
        true_cfg_scale=3.0,
        guided_steps=range(2),
        one_batch=True,
    )
    return denoise(denoise(targets, 0, (positive, None), (negative, None)), 1, (positive, None), (negative, None))


def test_every_block_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[torch.nn.Module, dict[str, object]]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append((module, options)))
    transformer = model()
    compile_blocks(transformer, mode="default")
    assert [block for block, _ in compiled] == list(transformer.transformer_blocks)
    assert compiled[0][1] == {"fullgraph": True, "dynamic": True, "mode": "default"}


@pytest.mark.slow
def test_other_layers_and_sizes_need_no_compilation() -> None:
    compiled, eager = model(), model()
    counter = CompileCounterWithBackend("eager")
    compile_blocks(compiled, backend=counter)
    for grid, m, n, words in (((4, 6), 2, 1, 9), ((4, 6), 3, 2, 9), ((8, 6), 1, 1, 12), ((6, 6), 4, 2, 5)):
        call = grid, m, n, words
        torch.testing.assert_close(guided(compiled, *call), guided(eager, *call), atol=1e-5, rtol=1e-4)
        assert counter.frame_count == GRAPHS
