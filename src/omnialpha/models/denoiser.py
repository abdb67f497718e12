"""The model as the sampling loop sees it: from noisy latents and a step to the guided velocity.

A `Denoiser` lives for one call of the pipeline. It computes once what no step changes (rotations, modulation of all
noise levels, the prompts of both branches side by side), runs the two branches of guidance as one batch when memory
allows, and never waits for the device.

Shape suffixes: B batch, S image tokens, T text tokens, C values per token, N steps.
"""

from typing import Any

import psutil
import torch
import torch.nn.functional as F
from diffusers import QwenImageTransformer2DModel
from torch import Tensor

from omnialpha.models.fast_forward import Reused, is_fast
from omnialpha.models.prompt import Embeddings
from omnialpha.models.rope import LayerShape
from omnialpha.models.sampling import guide
from omnialpha.models.transformer import velocity

WIDTHS_PER_TOKEN = 12
"""Values that a block holds at its peak for every token, in multiples of the model's width: state and norm, the MLP's
hidden layer before and after GELU (4 each), and its output."""


class Denoiser:
    """Guided velocity predictions for the steps of one call.

    Args:
        transformer: prepared by `with_layer_positions`.
        inputs_BSC: packed clean latents of the inputs; None when there are none.
        shapes: from `layer_shapes`.
        sigmas_N: noise levels of all steps, in the dtype and on the device of the latents.
        true_cfg_scale: strength of guidance in the guided steps.
        guided_steps: the steps with guidance.
        attention_kwargs: see `velocity`.
        one_batch: whether both branches of guidance go through the transformer together; None: when memory allows.
    """

    def __init__(
        self,
        transformer: QwenImageTransformer2DModel,
        inputs_BSC: Tensor | None,
        shapes: list[LayerShape],
        sigmas_N: Tensor,
        *,
        true_cfg_scale: float = 1.0,
        guided_steps: range = range(0),
        attention_kwargs: dict[str, Any] | None = None,
        one_batch: bool | None = None,
    ) -> None:
        self._transformer = transformer
        self._inputs_BSC = inputs_BSC
        self._shapes = shapes
        self._sigmas_N = sigmas_N
        self._scale = true_cfg_scale
        self._guided_steps = guided_steps
        self._attention_kwargs = attention_kwargs
        self._one_batch = one_batch
        self._fast = is_fast(transformer)
        self._reused = Reused(timesteps=sigmas_N)
        self._both: tuple[Tensor, Embeddings, tuple[int, int]] | None = None

    def __call__(self, x_BSC: Tensor, step: int, positive: Embeddings, negative: Embeddings | None = None) -> Tensor:
        """The velocity of the noisy targets.

        Args:
            x_BSC: packed noisy latents of the targets.
            step: number of the step, from 0.
            positive: the prompts.
            negative: what guidance leads away from; needed in guided steps.
        """
        if negative is None or step not in self._guided_steps:
            # What a step cache keeps of the steps before the guided ones is too old for those after them.
            return self._velocity("cond" if step < self._guided_steps.stop else "after", x_BSC, step, positive)
        if self._one_batch is None:
            tokens = x_BSC.shape[1] + positive[0].shape[1]
            tokens += 0 if self._inputs_BSC is None else self._inputs_BSC.shape[1]
            self._one_batch = one_batch_fits(self._transformer, len(x_BSC) * tokens, x_BSC)
        if self._one_batch and self._fast:
            if self._both is None or self._both[0] is not positive[0]:  # a callback may change the prompt
                self._both = positive[0], *side_by_side(positive, negative)
            _, prompts, lengths = self._both
            toward, away = self._velocity("both", x_BSC, step, prompts, lengths).chunk(2)
        else:
            toward = self._velocity("cond", x_BSC, step, positive)
            away = self._velocity("uncond", x_BSC, step, negative)
        return guide(toward, away, self._scale)

    def _velocity(
        self, context: str, x_BSC: Tensor, step: int, prompt: Embeddings, lengths: tuple[int, ...] | None = None
    ) -> Tensor:
        """One call of the transformer. A cache keeps what has the shape of a batch: each layout is a context."""
        self._reused.step, self._reused.text_lengths = step, lengths
        with self._transformer.cache_context(context):
            return velocity(
                self._transformer,
                x_BSC,
                self._inputs_BSC,
                self._sigmas_N[step],
                prompt,
                self._shapes,
                self._attention_kwargs,
                self._reused,
            )


def side_by_side(positive: Embeddings, negative: Embeddings) -> tuple[Embeddings, tuple[int, int]]:
    """Both prompts as one batch, padded to one length, and their two lengths."""
    entries, lengths = (positive, negative), (positive[0].shape[1], negative[0].shape[1])
    embeds_BTD = torch.cat([_padded(embeds, max(lengths)) for embeds, _ in entries])
    mask_BT = None
    if any(mask is not None for _, mask in entries):
        real = [embeds.new_ones(embeds.shape[:2]) if mask is None else mask for embeds, mask in entries]
        mask_BT = torch.cat([_padded(mask.bool(), max(lengths)) for mask in real])
    return (embeds_BTD, mask_BT), lengths


def one_batch_fits(transformer: QwenImageTransformer2DModel, num_tokens: int, like: Tensor) -> bool:
    """Whether the second branch of guidance may join the first: its activations fit into half of the free memory.

    Args:
        transformer: tells the width.
        num_tokens: all tokens of one branch, of the whole batch.
        like: tells device and dtype of the computation.
    """
    needed = num_tokens * WIDTHS_PER_TOKEN * transformer.inner_dim * like.element_size()
    return 2 * needed <= free_memory(like.device)


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated now, without waiting for the device; 0 where nobody says."""
    if device.type == "cpu":
        return psutil.virtual_memory().available
    if device.type == "cuda":
        reserved, (free, total) = torch.cuda.memory_reserved(device), torch.cuda.mem_get_info(device)
        share = torch.cuda.get_per_process_memory_fraction(device) * total  # 1 unless the process is capped
        return max(0, min(free, int(share) - reserved)) + reserved - torch.cuda.memory_allocated(device)
    return 0


def _padded(x_BT: Tensor, num_tokens: int) -> Tensor:
    """Zeros behind the tokens (dimension 1) up to a number."""
    missing = num_tokens - x_BT.shape[1]
    return F.pad(x_BT, (*[0, 0] * (x_BT.ndim - 2), 0, missing))
