"""How fast a device multiplies matrices at best: what utilisation is measured against."""

import statistics
import time
from collections.abc import Sequence

import torch

ROUNDS = 10
WARM_UP = 3


def matmul_ceiling(
    shapes: Sequence[tuple[int, int, int]], device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Operations per second of (M, K) × (K, N) for each shape, medians over random data.

    Args:
        shapes: (M, K, N) each; the names in the result are "M×K×N".
        device: where.
        dtype: of both matrices; bfloat16 adds up in float32.
    """
    found = {}
    for M, K, N in shapes:
        a, b = torch.randn(M, K, device=device, dtype=dtype), torch.randn(K, N, device=device, dtype=dtype)
        seconds = []
        for number in range(WARM_UP + ROUNDS):
            _wait(device)
            start = time.perf_counter()
            torch.mm(a, b)
            _wait(device)
            if number >= WARM_UP:
                seconds.append(time.perf_counter() - start)
        found[f"{M}×{K}×{N}"] = 2 * M * K * N / statistics.median(seconds)
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
