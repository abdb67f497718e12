"""One block of the transformer without gradients, and the two small layers in it that diffusers leaves slow.

Part of `models.fast_forward`; see there for what is saved and how tokens are ordered.

Shape suffixes: B batch, S image tokens, T text tokens, L = S + T, D values per token.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.activations import GELU
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers import transformer_qwenimage as stock
from torch import Tensor

from omnialpha.models.joint_attention import joint_attention, repeated


class QwenImageTransformerBlock(stock.QwenImageTransformerBlock):
    """diffusers' block with a second way through, taken when the rotations come as one tensor.

    It has the name of its parent because `compile_repeated_blocks` finds blocks by the name of their class.
    """

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_mask: Tensor | None,
        temb: Tensor,
        image_rotary_emb: Tensor | tuple[Tensor, Tensor] | None = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
        modulate_index: list[int] | None = None,
        *,
        text_lengths: tuple[int, ...] | None = None,
        num_targets: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One block, as diffusers'; or the fast way.

        Args:
            hidden_states: image tokens (b, S, D), b a divisor of B: the first rows repeat.
            encoder_hidden_states: text tokens (B, T, D).
            encoder_hidden_states_mask: (B, 1, 1, L), true for real tokens; None: all are.
            temb: embedded noise level (b, D), or the modulation itself, (b, 12, D); b is 1 or B.
            image_rotary_emb: from :func:`joint_rotations`; two tensors ask for diffusers' own way.
            joint_attention_kwargs: for diffusers' own way.
            modulate_index: for diffusers' own way.
            text_lengths: see :class:`Reused`.
            num_targets: compute only this many image tokens, and no text; None: all.

        Returns:
            Text tokens and image tokens.
        """
        if not isinstance(image_rotary_emb, Tensor):
            return super().forward(
                hidden_states,
                encoder_hidden_states,
                encoder_hidden_states_mask,
                temb,
                image_rotary_emb,
                joint_attention_kwargs,
                modulate_index,
            )
        image_BSD, text_BTD = hidden_states, encoder_hidden_states
        mod_b6D = temb if temb.ndim == 3 else block_modulation(self, temb)
        shift1, scale1, gate1, shift2, scale2, gate2 = mod_b6D[:, :6].unsqueeze(2).unbind(1)
        t_shift1, t_scale1, t_gate1, t_shift2, t_scale2, t_gate2 = mod_b6D[:, 6:].unsqueeze(2).unbind(1)

        image_out_BSD, text_out_BTD = joint_attention(
            self.attn,
            _modulated(image_BSD, shift1, scale1, self.img_norm1.eps),
            _modulated(text_BTD, t_shift1, t_scale1, self.txt_norm1.eps),
            image_rotary_emb,
            encoder_hidden_states_mask,
            text_lengths,
            num_targets,
        )
        image_BSD = torch.addcmul(repeated(image_BSD[:, :num_targets], len(text_BTD)), gate1, image_out_BSD)
        image_BSD.addcmul_(gate2, self.img_mlp(_modulated(image_BSD, shift2, scale2, self.img_norm2.eps)))
        if text_out_BTD is not None:
            text_BTD = torch.addcmul(text_BTD, t_gate1, text_out_BTD)
            text_BTD.addcmul_(t_gate2, self.txt_mlp(_modulated(text_BTD, t_shift2, t_scale2, self.txt_norm2.eps)))
        if image_BSD.dtype == torch.float16:  # as diffusers: no overflow
            return text_BTD.clip(-65504, 65504), image_BSD.clip(-65504, 65504)
        return text_BTD, image_BSD


TransformerBlockRegistry.register(  # step caches look a block's signature up by its class
    QwenImageTransformerBlock,
    TransformerBlockMetadata(return_hidden_states_index=1, return_encoder_hidden_states_index=0),
)


class FastRMSNorm(RMSNorm):
    """The same normalisation as one operation."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if torch.is_grad_enabled() or hidden_states.dtype != self.weight.dtype:
            return super().forward(hidden_states)
        return F.rms_norm(hidden_states, self.dim, self.weight, self.eps)


class FastGELU(GELU):
    """GELU's tanh form as x · sigmoid(2u), which it equals: torch's tanh takes four times as long on a CPU."""

    def gelu(self, gate: Tensor) -> Tensor:
        """The activation alone."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or gate.device.type != "cpu":
            return super().gelu(gate)
        # 2u = x · (a + b·x²) with a = 2·sqrt(2/π) and b = 0.044715·a
        a = torch.full((), 1.5957691216057308, dtype=gate.dtype)
        return torch.addcmul(a, gate, gate, value=0.07135481282812354).mul_(gate).sigmoid_().mul_(gate)


def block_modulation(block: stock.QwenImageTransformerBlock, embed_bD: Tensor) -> Tensor:
    """Shift, 1 + scale and gate of both norms, of images then text: (b, 12, D)."""
    rows = torch.cat([block.img_mod(embed_bD), block.txt_mod(embed_bD)], dim=-1).unflatten(-1, (12, -1))
    rows[:, 1::3] += 1
    return rows


def _modulated(x_BLD: Tensor, shift_b1D: Tensor, scale_b1D: Tensor, eps: float) -> Tensor:
    """Layer norm, scaled and shifted; one noise level for all rows lets the norm do that itself."""
    D = x_BLD.shape[-1:]
    if len(shift_b1D) == 1:
        return F.layer_norm(x_BLD, D, scale_b1D[0, 0], shift_b1D[0, 0], eps)
    return torch.addcmul(shift_b1D, F.layer_norm(x_BLD, D, eps=eps), scale_b1D)
