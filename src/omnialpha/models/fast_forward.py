"""The transformer's forward pass without gradients: the same weights and results as diffusers', with less work.

`fast_forward` changes a `QwenImageTransformer2DModel` in place, as `models.vae.single_frame` does with the VAE.
Training keeps diffusers' own code. What a call without gradients saves:

- the last block computes queries, output and MLP for the target tokens alone: nothing else of it is read;
- the first block projects the images once for the positive and the negative branch of guidance, which begin alike;
- the branches share every matrix multiplication, and their prompts attend unpadded, so no mask slows the attention;
- query, key and value are one matrix multiplication, whose weight is the memory of the three;
- modulation is part of the layer norm, rotations work in place, GELU avoids the CPU's slow tanh.

Every layer with weights is called as a module, so adapters, quantised layers and hooks that offload them work; blocks
keep their place, class name and first arguments, so step caches and `compile_repeated_blocks` do. Tokens are ordered
[images | text] here, which attention does not notice: a prompt without its padding is then a slice.

Shape suffixes: B batch, S image tokens, T text tokens, L = S + T, C and D values per token.
"""

import inspect
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from diffusers.models.activations import GELU
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers import transformer_qwenimage as stock
from diffusers.utils import apply_lora_scale
from torch import Tensor

from omnialpha.models.fast_block import FastGELU, FastRMSNorm, QwenImageTransformerBlock, block_modulation
from omnialpha.models.joint_attention import hooked, joint_qkv, repeated


@dataclass(kw_only=True)
class Reused:
    """What a loop over noise levels computes once instead of in every step; calls of the transformer fill it in.

    Attributes:
        timesteps: noise levels of all steps in [0, 1], (N,), in the dtype and on the device of the latents.
        step: number of the current step; set before each call.
        text_lengths: real text tokens of each of k equal parts of the batch, which attend apart; None: all are. Set
            before each call.
        rotations: from :func:`joint_rotations`, for each number of text tokens.
        modulation: from :func:`modulation_table`.
    """

    timesteps: Tensor
    step: int = 0
    text_lengths: tuple[int, ...] | None = None
    rotations: dict[int, Tensor] = field(default_factory=dict)
    modulation: list[Tensor] | None = None


def fast_forward(transformer: QwenImageTransformer2DModel) -> QwenImageTransformer2DModel:
    """Give the transformer a faster forward pass for calls without gradients, in place; twice does no harm.

    Weights, their names, config and class stay the same. Results equal the stock ones to rounding.
    """
    for module in transformer.modules():
        if type(module) is stock.QwenImageTransformerBlock:
            module.__class__ = QwenImageTransformerBlock
        elif type(module) is RMSNorm and module.weight is not None and module.bias is None:
            module.__class__ = FastRMSNorm
        elif type(module) is GELU and module.approximate == "tanh":
            module.__class__ = FastGELU
    if getattr(transformer.forward, "__func__", None) is QwenImageTransformer2DModel.forward:
        transformer.forward = types.MethodType(_forward, transformer)
    return transformer


def is_fast(transformer: QwenImageTransformer2DModel) -> bool:
    """Whether calls reach the faster forward pass, through whatever hooks were put around it."""
    innermost = inspect.unwrap(transformer.forward)
    return getattr(innermost, "__func__", None) is _forward


def joint_rotations(transformer: QwenImageTransformer2DModel, shapes: Any, num_text: int, device: Any) -> Tensor:
    """Cosine and sine of every token's rotations in the order [images | text], (L, D/2, 2) float32.

    Args:
        transformer: has the position embedding.
        shapes: as the position embedding takes them, one list of image shapes per batch entry.
        num_text: T, with padding.
        device: where they are needed.
    """
    images_SD, text_TD = transformer.pos_embed(shapes, max_txt_seq_len=num_text, device=device)
    return torch.view_as_real(torch.cat([images_SD, text_TD]))


def modulation_table(transformer: QwenImageTransformer2DModel, timesteps_N: Tensor) -> list[Tensor] | None:
    """All blocks' shifts, scales and gates at all noise levels: they depend on nothing else.

    Args:
        transformer: reads its modulation layers once instead of once per step and branch.
        timesteps_N: noise levels in [0, 1], in the dtype and on the device of the computation.

    Returns:
        For each block (N, 12, D), or None while weights are elsewhere (offloaded) or sharded.
    """
    layers = [transformer.time_text_embed, *(m for b in transformer.transformer_blocks for m in (b.img_mod, b.txt_mod))]
    weights = [parameter for layer in layers for parameter in layer.parameters()]
    elsewhere = any(type(weight.data) is not Tensor or weight.device != timesteps_N.device for weight in weights)
    if elsewhere or _is_group_offload_enabled(transformer):  # weights on disk leave empty ones behind, on the CPU
        return None
    embeds_ND = transformer.time_text_embed(timesteps_N, timesteps_N)
    return [block_modulation(block, embeds_ND) for block in transformer.transformer_blocks]


def _forward(
    self: QwenImageTransformer2DModel,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor,
    encoder_hidden_states_mask: Tensor | None = None,
    timestep: Tensor | None = None,
    img_shapes: Any = None,
    guidance: Tensor | None = None,
    attention_kwargs: dict[str, Any] | None = None,
    controlnet_block_samples: Sequence[Tensor] | None = None,
    additional_t_cond: Tensor | None = None,
    return_dict: bool = True,
    *,
    num_targets: int | None = None,
    reused: Reused | None = None,
) -> Transformer2DModelOutput | tuple[Tensor]:
    """The forward pass of diffusers with two more arguments; the fast way where gradients and hooks allow it.

    Args:
        self: the transformer.
        hidden_states: image tokens (b, S, C), b a divisor of the batch B: the rows repeat.
        encoder_hidden_states: prompt embeddings (B, T, D).
        encoder_hidden_states_mask: (B, T), true for real tokens; None: all are.
        timestep: noise level in [0, 1], (1,) or (B,).
        img_shapes: see `models.rope`.
        guidance: as diffusers, and so are the arguments that follow.
        attention_kwargs: ``{"scale": s}`` sets the strength of adapters.
        controlnet_block_samples: see there.
        additional_t_cond: see there.
        return_dict: see there.
        num_targets: how many of the first tokens are to be predicted; None: all.
        reused: what the loop computes once, filled in here; None: everything is computed.
    """
    others = (guidance, controlnet_block_samples, additional_t_cond)
    options = set(attention_kwargs or {}) - {"scale"}
    if torch.is_grad_enabled() or options or any(other is not None for other in others) or not _regular(self):
        rows, mask = len(encoder_hidden_states), encoder_hidden_states_mask
        lengths = None if reused is None else reused.text_lengths
        (output,) = QwenImageTransformer2DModel.forward(
            self,
            hidden_states=repeated(hidden_states, rows),
            encoder_hidden_states=encoder_hidden_states,
            encoder_hidden_states_mask=_unpadded(encoder_hidden_states, mask, lengths),
            timestep=timestep if timestep is None else timestep.expand(rows),
            img_shapes=img_shapes,
            guidance=guidance,
            attention_kwargs=attention_kwargs,
            controlnet_block_samples=controlnet_block_samples,
            additional_t_cond=additional_t_cond,
            return_dict=False,
        )
        output = output[:, :num_targets]
    else:
        output = _predict(
            self,
            hidden_states,
            encoder_hidden_states,
            encoder_hidden_states_mask,
            timestep,
            img_shapes,
            num_targets,
            reused,
            attention_kwargs=attention_kwargs,
        )
    return Transformer2DModelOutput(sample=output) if return_dict else (output,)


@apply_lora_scale("attention_kwargs")
def _predict(
    self: QwenImageTransformer2DModel,
    tokens_bSC: Tensor,
    prompt_BTD: Tensor,
    mask_BT: Tensor | None,
    timestep: Tensor,
    shapes: Any,
    num_targets: int | None,
    reused: Reused | None,
    *,
    attention_kwargs: dict[str, Any] | None,
) -> Tensor:
    """The fast way: velocities of the first ``num_targets`` tokens, (B, num_targets, C)."""
    image_bSD = self.img_in(tokens_bSC)
    text_BTD = self.txt_in(self.txt_norm(prompt_BTD))
    embed_bD = self.time_text_embed(timestep.to(image_bSD.dtype), image_bSD)
    rotations = _rotations(self, shapes, text_BTD.shape[1], image_bSD.device, reused)
    modulations = _modulations(self, embed_bD, reused)
    mask_B11L = None
    if mask_BT is not None:
        real = mask_BT.new_ones(len(mask_BT), image_bSD.shape[1], dtype=torch.bool)
        mask_B11L = torch.cat([real, mask_BT.bool()], dim=1)[:, None, None]

    blocks = self.transformer_blocks
    if hooked(blocks[0]):  # a step cache subtracts what enters from what leaves
        image_bSD = repeated(image_bSD, len(text_BTD))
    for block, modulation in zip(blocks, modulations, strict=True):
        only_targets = {} if block is not blocks[-1] or hooked(block) else {"num_targets": num_targets}
        with joint_qkv(block.attn, image_bSD.device, allowed=not hooked(block)):
            text_BTD, image_bSD = block(
                hidden_states=image_bSD,
                encoder_hidden_states=text_BTD,
                encoder_hidden_states_mask=mask_B11L,
                temb=modulation,
                image_rotary_emb=rotations,
                text_lengths=None if reused is None else reused.text_lengths,
                **only_targets,
            )
    return self.proj_out(self.norm_out(image_bSD[:, :num_targets], embed_bD))


def _rotations(
    transformer: QwenImageTransformer2DModel, shapes: Any, num_text: int, device: torch.device, reused: Reused | None
) -> Tensor:
    """Rotations of this call's tokens, made once for each number of text tokens."""
    if reused is None:
        return joint_rotations(transformer, shapes, num_text, device)
    if num_text not in reused.rotations:
        reused.rotations[num_text] = joint_rotations(transformer, shapes, num_text, device)
    return reused.rotations[num_text]


def _modulations(transformer: QwenImageTransformer2DModel, embed_bD: Tensor, reused: Reused | None) -> list[Tensor]:
    """For each block its modulation at this step, (1, 12, D), or the embedded noise level that it is made of."""
    if reused is not None and reused.modulation is None:
        reused.modulation = modulation_table(transformer, reused.timesteps)
    if reused is None or reused.modulation is None:
        return [embed_bD] * len(transformer.transformer_blocks)
    return [rows[reused.step : reused.step + 1] for rows in reused.modulation]


def _regular(transformer: QwenImageTransformer2DModel) -> bool:
    """Whether attention may be computed without calling diffusers' processor: nobody replaced, watches or splits it."""
    return transformer._parallel_config is None and all(
        type(block.attn.processor) is stock.QwenDoubleStreamAttnProcessor2_0 and not hooked(block.attn)
        for block in transformer.transformer_blocks
    )


def _unpadded(prompt_BTD: Tensor, mask_BT: Tensor | None, text_lengths: Sequence[int] | None) -> Tensor | None:
    """The mask that says the same as the lengths of the batch's parts."""
    if text_lengths is None or all(length == prompt_BTD.shape[1] for length in text_lengths):
        return mask_BT
    places = torch.arange(prompt_BTD.shape[1], device=prompt_BTD.device)
    real = torch.stack([places < length for length in text_lengths])
    real_BT = real.repeat_interleave(len(prompt_BTD) // len(text_lengths), dim=0)
    return real_BT if mask_BT is None else real_BT & mask_BT.bool()
