"""Prompts without pictures are embedded once: the negative prompt is the same in call after call."""

from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import Tensor, nn

from omnialpha.models.prompt import PromptEncoder

CAPACITY = 16
"""Number of prompts that are remembered, some hundred kilobytes each; the one asked for longest ago goes first."""


class PromptMemory:
    """Embeddings of prompts without pictures, as long as the VLM that made them stays the same.

    What pictures contribute is not remembered: it is large, and a second call with the same picture is the exception.
    """

    def __init__(self) -> None:
        self._maker: Hashable = None
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    def embed(self, encoder: PromptEncoder, prompt: str, device: torch.device) -> Tensor:
        """Hidden states (1, T, D) of a prompt, computed where they are not known.

        Args:
            encoder: runs the VLM. With another template, other weights or another dtype all is forgotten.
            prompt: the words.
            device: where the VLM computes, and where the hidden states are wanted.
        """
        weights = weights_mark(encoder.text_encoder)
        if weights is None:
            return encoder.embed([prompt], [[]], device)[0]
        maker = weights, encoder.profile.prompt_template, id(encoder.tokenizer)
        if maker != self._maker:
            self._maker = maker
            self._known.clear()
        if prompt not in self._known:
            self._known[prompt] = encoder.embed([prompt], [[]], device)[0]
        self._known.move_to_end(prompt)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
        return self._known[prompt].to(device)


def weights_mark(module: nn.Module) -> Hashable:
    """A value that changes with the weights of a module; None where they could change unseen.

    Versions count the changes in place. Those that pass by them, through ``.data`` as peft merges adapters, or by other
    tensors in the place of these, show in the first value of each tensor. The strength of an attached adapter shows in
    no weight, and weights that are elsewhere (offloaded one layer at a time) cannot be looked at.
    """
    parameters = list(module.parameters())
    if getattr(module, "peft_config", None) or any(p.is_meta or p.is_inference() for p in parameters):
        return None
    first = torch.stack([p.detach().flatten()[0].float() for p in parameters]).tolist()
    return module.dtype, tuple(p._version for p in parameters), tuple(first)
