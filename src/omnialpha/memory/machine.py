"""What a device has free, and how fast it is: measured in a fraction of a second."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import torch

from omnialpha.models.denoiser import free_memory

PATIENCE = 0.03  # seconds that one measurement takes at most, about
WORKSPACE = 10**9  # bytes that CUDA's libraries take beside the tensors
DISK = 10**9  # bytes per second read from disk; not measured: the cache of the operating system would be


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A device.

    Attributes:
        kind: "cpu" or "cuda".
        name: for users.
        free: bytes that tensors can still get.
        speeds: dtype → floating-point operations per second of a matrix product.
        copying: bytes per second copied inside the device.
        fetching: bytes per second from where offloaded weights are.
    """

    kind: str
    name: str
    free: int
    speeds: Mapping[torch.dtype, float] = field(default_factory=dict)
    copying: float = 1e10
    fetching: float = DISK


def measure(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> Machine:
    """Measure a device.

    Args:
        device: the device.
        dtypes: in which models may compute on it.
    """
    cuda = device.type == "cuda"
    return Machine(
        kind=device.type,
        name=device_name(device),
        free=free_bytes(device),
        speeds={dtype: _matmul_speed(device, dtype) for dtype in dtypes},
        copying=_copy_speed(device, device),
        fetching=_copy_speed(torch.device("cpu"), device) if cuda else DISK,
    )


def device_name(device: torch.device) -> str:
    """What to call a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"


def free_bytes(device: torch.device) -> int:
    """Bytes that tensors can still get: on CUDA with what torch holds unused, on the CPU within the cgroup's limit."""
    if device.type == "cuda":
        return max(0, free_memory(device) - WORKSPACE)
    free, limit = psutil.virtual_memory().available, _cgroup_bytes(Path("/sys/fs/cgroup"))
    return free if limit is None else min(limit, free)


def _cgroup_bytes(root: Path) -> int | None:
    """What a container's limit leaves, by version 2 or 1 of the interface; None without a limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            values = (root / limit).read_text(encoding="ascii"), (root / used).read_text(encoding="ascii")
        except OSError:
            continue
        if values[0].strip() != "max":
            return max(0, int(values[0]) - int(values[1]))
    return None


def _matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the largest square product that is done within patience."""
    side, seconds = 128, 0.0
    while seconds < PATIENCE / 4 and side < 8192:
        side *= 2
        matrix = torch.ones(side, side, device=device, dtype=dtype)
        product = partial(torch.mm, matrix, matrix)
        if side == 256:
            _seconds(product, device)  # warms up
        seconds = _seconds(product, device)
    return 2 * side**3 / seconds


def _copy_speed(source: torch.device, target: torch.device) -> float:
    """Bytes per second of a copy; what is copied is read, and written."""
    values = torch.zeros(2**26, dtype=torch.uint8, device=source)
    if source != target:
        values = values.pin_memory()
    copy = torch.empty_like(values, device=target)
    _seconds(lambda: copy.copy_(values), target)
    return values.numel() / _seconds(lambda: copy.copy_(values), target)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return max(time.perf_counter() - start, 1e-9)
