"""The denoising transformer: diffusers' own class, given layer positions, and one call for one velocity prediction.

`with_layer_positions` swaps the position embedding of a `QwenImageTransformer2DModel` for MSRoPE-BiL and turns on the
faster forward pass (`models.fast_forward`); weights, config and adapters stay the stock ones. `layer_shapes` writes
down the positions of a call, `velocity` makes the call.

Shape suffixes: B batch, S image tokens, C values per token.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor

from omnialpha.errors import CheckpointError
from omnialpha.models.fast_forward import Reused, fast_forward, is_fast
from omnialpha.models.prompt import Embeddings
from omnialpha.models.rope import LayerOrder, LayerShape, MSRoPEBiL, layer_indices

TokenGrid = tuple[int, int]
"""Token rows and columns of one image: its height and width / 16."""


def with_layer_positions(transformer: QwenImageTransformer2DModel) -> QwenImageTransformer2DModel:
    """Make the transformer read explicit layer indices from its image shapes, and fast, in place; twice does no harm.

    Raises:
        CheckpointError: the transformer is a variant with other positions or other conditions than image and text.
    """
    config = transformer.config
    for option in ("guidance_embeds", "zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"):
        if getattr(config, option, False):
            raise CheckpointError(
                f"the transformer has {option}=True, which OmniAlpha does not use; "
                "take one with the layout of Qwen-Image-Edit-2509"
            )
    if not isinstance(transformer.pos_embed, MSRoPEBiL):
        transformer.pos_embed = MSRoPEBiL(config.axes_dims_rope)
    return fast_forward(transformer)


def layer_shapes(
    target: TokenGrid, num_targets: int, inputs: Sequence[TokenGrid], order: LayerOrder
) -> list[LayerShape]:
    """Shapes and layer indices of the sequence [targets | inputs].

    >>> layer_shapes((12, 8), 2, [(12, 8)], "paper")
    [(1, 12, 8, -1), (1, 12, 8, -2), (1, 12, 8, 0)]
    """
    grids = [target] * num_targets + list(inputs)
    indices = layer_indices(num_targets, len(inputs), order)
    return [(1, rows, columns, z) for (rows, columns), z in zip(grids, indices, strict=True)]


def velocity(
    transformer: QwenImageTransformer2DModel,
    targets_BSC: Tensor,
    inputs_BSC: Tensor | None,
    sigma: Tensor,
    prompt: Embeddings,
    shapes: list[LayerShape],
    attention_kwargs: dict[str, Any] | None = None,
    reused: Reused | None = None,
) -> Tensor:
    """Predict the velocity ε − x0 of the noisy targets, given clean inputs and the prompt (Eq. 3).

    Args:
        transformer: prepared by :func:`with_layer_positions`.
        targets_BSC: packed noisy latents of the m targets.
        inputs_BSC: packed clean latents of the n inputs; None when there are none.
        sigma: noise level in [0, 1], (B,) or a scalar.
        prompt: hidden states and mask from the prompt encoder; with twice as many rows as targets, as the two branches
            of guidance have, the targets repeat.
        shapes: from :func:`layer_shapes`, for all m + n images.
        attention_kwargs: passed on to the attention processors; ``{"scale": s}`` sets the strength of an adapter.
        reused: what a loop over noise levels computes once; see `models.fast_forward`.

    Returns:
        The prediction for the target tokens, of the shape of ``targets_BSC``, one for each row of the prompt.
    """
    prompt_embeds, prompt_mask = prompt
    tokens_BSC = targets_BSC if inputs_BSC is None else torch.cat([targets_BSC, inputs_BSC], dim=1)
    num_targets = targets_BSC.shape[1]
    fast = {"num_targets": num_targets, "reused": reused} if is_fast(transformer) else {}
    prediction_BSC = transformer(
        hidden_states=tokens_BSC,
        timestep=(sigma if fast else sigma.expand(len(tokens_BSC))).reshape(-1).to(tokens_BSC.dtype),
        encoder_hidden_states=prompt_embeds,
        encoder_hidden_states_mask=prompt_mask,
        img_shapes=[shapes] * len(tokens_BSC),
        attention_kwargs=attention_kwargs,
        return_dict=False,
        **fast,
    )[0]
    return prediction_BSC[:, :num_targets]
