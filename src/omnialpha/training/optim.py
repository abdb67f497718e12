"""What moves the weights: optimisers by name, Muon for matrices, and the moving average.

Muon takes steps of equal size in every direction. torch.optim.Muon runs its iteration in bfloat16, which is a hundred
times slower than float32 on CPUs without bfloat16 instructions, so this one computes in the dtype of the weights.
Method: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the scale that keeps
AdamW's learning rates: Liu et al., arXiv 2502.16982.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from omnialpha.extras import require
from omnialpha.training.dit_config import DitConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal before it is applied.

    Args:
        params: weights with two or more dimensions; a convolution's counts as the matrix (outputs, all the rest).
        lr: learning rate on AdamW's scale.
        momentum: of the gradient, with Nesterov's look-ahead.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; matrices of one shape are made orthogonal together. Closures are not supported."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = torch.stack([self._momentum(parameter, group["momentum"]) for parameter in parameters])
                matrices_BMN = updates.flatten(2)
                rate = group["lr"] * 0.2 * max(matrices_BMN.shape[1:]) ** 0.5
                for parameter, update in zip(parameters, orthogonalise(matrices_BMN), strict=True):
                    parameter.add_(update.view(shape), alpha=-rate)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["momentum"], momentum)


def orthogonalise(matrices_BMN: Tensor) -> Tensor:
    """Replace each matrix's singular values by values near one (quintic Newton–Schulz iteration).

    Args:
        matrices_BMN: (B, M, N).

    >>> values = torch.linalg.svdvals(orthogonalise(torch.randn(1, 8, 32, generator=torch.manual_seed(0))))
    >>> bool((values > 0.6).all() and (values < 1.3).all())
    True
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrices_BMN.shape[-2] <= matrices_BMN.shape[-1]
    x = matrices_BMN if wide else matrices_BMN.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


def make_optimizers(parameters: Mapping[str, Tensor], config: DitConfig) -> list[torch.optim.Optimizer]:
    """The optimisers of stage 2 over named parameters.

    "adamw" is the paper's; "adamw8bit" keeps its two states in 8 bits. "muon" takes the hidden matrices of attention
    and MLPs, beside AdamW for the rest (embeddings, modulation, norms, ends).

    Raises:
        MissingExtraError: "adamw8bit" without bitsandbytes.
    """
    rate, betas = config.learning_rate, (0.9, 0.999)
    if config.optimizer == "adamw8bit":
        return [require("bitsandbytes", "train").optim.AdamW8bit(parameters.values(), lr=rate, betas=betas)]
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(parameters.values(), lr=rate, betas=betas)]
    hidden: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in parameters.items():
        in_block = "transformer_blocks" in name or "language_model.layers" in name
        (hidden if in_block and parameter.ndim == 2 and "_mod." not in name else rest).append(parameter)
    return [Muon(hidden, lr=rate), torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)]


class Average:
    """Exponential moving average of named parameters, which `swapped` puts in their place.

    Args:
        parameters: what it follows; it starts as a copy.
        decay: reached gradually: after t steps it is at most (1 + t) / (10 + t). 0 follows without delay, at no cost.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.parameters = parameters
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in parameters.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the parameters after step number `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.values.items():
            value.lerp_(self.parameters[name].detach(), 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the block the parameters have their averaged values."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def settle(self) -> None:
        """Leave the averaged values in place for good; the average is over."""
        self._swap()
        self.values.clear()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.values.items():
            kept = value.clone()
            value.copy_(self.parameters[name])
            self.parameters[name].copy_(kept)
