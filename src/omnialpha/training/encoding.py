"""From examples to what the transformer reads: latents of the pictures, hidden states of the prompts.

Training encodes every batch anew (`encode`) or reads what `omnialpha.training.cache` has encoded before; both give the
same `Encoded`.

Shape suffixes: B batch, L layers, N pictures, C latent channels, H and W latent rows and columns (pixels in N4HW),
T text tokens, D hidden size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnialpha.data.examples import Example
from omnialpha.models.latents import PATCH, normalise
from omnialpha.models.prompt import Embeddings, over_white
from omnialpha.models.vae import encode_frame
from omnialpha.pipeline import OmniAlphaPipeline

ENCODED_AT_ONCE = 32  # pictures through the VAE together: more outgrow a CPU's caches, at a third of the speed


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A batch as the transformer reads it.

    Attributes:
        inputs_BLCHW: normalised latents of the n inputs; None when there are none.
        targets_BLCHW: normalised latents of the m targets, in the order of the checkpoint's profile.
        prompt: hidden states and mask of the prompts, as the prompt encoder gives them.
        tasks: what each row is an example of.
    """

    inputs_BLCHW: Tensor | None
    targets_BLCHW: Tensor
    prompt: Embeddings
    tasks: tuple[str, ...]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Encoded:
        """The same batch on another device, in another dtype."""
        embeds_BTD, mask_BT = self.prompt
        return dataclasses.replace(
            self,
            inputs_BLCHW=None if self.inputs_BLCHW is None else self.inputs_BLCHW.to(device, dtype),
            targets_BLCHW=self.targets_BLCHW.to(device, dtype),
            prompt=(embeds_BTD.to(device, dtype), None if mask_BT is None else mask_BT.to(device)),
        )

    @property
    def padding(self) -> float:
        """Share of padding among all tokens of the batch, in [0, 1]: pictures bring none, prompts may."""
        embeds_BTD, mask_BT = self.prompt
        padded = 0 if mask_BT is None else int((~mask_BT).sum())
        layers = self.targets_BLCHW.shape[1] + (0 if self.inputs_BLCHW is None else self.inputs_BLCHW.shape[1])
        cells = self.targets_BLCHW.shape[-2] * self.targets_BLCHW.shape[-1] // PATCH**2
        B, T, _ = embeds_BTD.shape
        return padded / (B * (layers * cells + T))


def encode(pipeline: OmniAlphaPipeline, examples: Sequence[Example], dropped: Sequence[bool]) -> Encoded:
    """Encode a batch with the frozen VAE and the VLM.

    Gradients reach the VLM where its weights ask for them, never the VAE.

    Args:
        pipeline: VAE, VLM and profile.
        examples: B examples of one size and structure.
        dropped: for each, whether its instruction is replaced by "" (the pictures stay).

    Returns:
        The batch, on the devices of VAE and VLM.
    """
    n = len(examples[0].inputs)
    pictures_BL4HW = torch.stack([as_tensor(*example.inputs, *in_order(pipeline, example)) for example in examples])
    latents_NCHW = encode_pictures(pipeline, pictures_BL4HW.flatten(0, 1))
    latents_BLCHW = latents_NCHW.unflatten(0, pictures_BL4HW.shape[:2])
    prompts = ["" if drop else example.prompt for drop, example in zip(dropped, examples, strict=True)]
    images = [list(over_white(pictures_L4HW[:n])) for pictures_L4HW in pictures_BL4HW]
    return Encoded(
        inputs_BLCHW=latents_BLCHW[:, :n] if n else None,
        targets_BLCHW=latents_BLCHW[:, n:],
        prompt=pipeline.prompt_encoder.embed(prompts, images),
        tasks=tuple(example.task for example in examples),
    )


@torch.no_grad()
def encode_pictures(pipeline: OmniAlphaPipeline, pictures_N4HW: Tensor) -> Tensor:
    """Pictures in [0, 1] to normalised latents (N, C, H/8, W/8): the mode of the VAE's posterior."""
    vae = pipeline.vae
    parts = pictures_N4HW.to(vae.device, vae.dtype).mul(2).sub(1).split(ENCODED_AT_ONCE)
    moments_NCHW = torch.cat([encode_frame(vae, part) for part in parts])
    return normalise(moments_NCHW.chunk(2, dim=1)[0], vae)


def in_order(pipeline: OmniAlphaPipeline, example: Example) -> tuple[np.ndarray, ...]:
    """The targets in the order of the checkpoint: Table 1's, or back to front for the released weights."""
    return example.targets if pipeline.profile.layer_order == "paper" else example.targets[::-1]


def as_tensor(*pictures: np.ndarray) -> Tensor:
    """Pictures (H, W, 4) of one size as one tensor (N, 4, H, W)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def pad_prompts(rows_TD: Sequence[Tensor]) -> Embeddings:
    """Hidden states of prompts of different lengths as one batch, padded on the right.

    >>> embeds, mask = pad_prompts([torch.ones(1, 4), torch.ones(2, 4)])
    >>> embeds.shape, mask.tolist()
    (torch.Size([2, 2, 4]), [[True, False], [True, True]])
    """
    lengths = torch.tensor([len(row) for row in rows_TD])
    embeds_BTD = torch.nn.utils.rnn.pad_sequence(list(rows_TD), batch_first=True)
    mask_BT = torch.arange(embeds_BTD.shape[1]) < lengths[:, None]
    return embeds_BTD, None if mask_BT.all() else mask_BT
