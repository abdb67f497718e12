"""Muon for matrices: steps of equal size in every direction.

torch.optim.Muon runs its iteration in bfloat16, which is a hundred times slower than float32 on CPUs without bfloat16
instructions, so this one computes in the dtype of the weights. Method: Keller Jordan et al., "Muon: An optimizer for
hidden layers in neural networks" (2024); the scale that keeps AdamW's learning rates: Liu et al., arXiv 2502.16982.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

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
