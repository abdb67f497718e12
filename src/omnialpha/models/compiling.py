"""torch.compile for the transformer's blocks."""

from typing import Any

from diffusers import QwenImageTransformer2DModel


def compile_blocks(transformer: QwenImageTransformer2DModel, **options: Any) -> None:
    """Compile the repeated blocks, in place: once for all blocks, numbers of layers and sizes.

    Compilation happens in the first call and takes about a minute. The first, the middle and the last blocks are three
    graphs, because the first serves both branches of guidance and the last the targets alone; a call with another
    batch size compiles again.

    Args:
        transformer: prepared by `with_layer_positions`.
        options: for `torch.compile`, such as ``mode="max-autotune-no-cudagraphs"``.
    """
    transformer.compile_repeated_blocks(fullgraph=True, dynamic=True, **options)
