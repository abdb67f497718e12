"""What a machine has free and how fast it is."""

from pathlib import Path

import psutil
import pytest
import torch

from omnialpha.memory.machine import _cgroup_bytes, free_bytes, measure


def test_the_cpu_is_measured() -> None:
    machine = measure(torch.device("cpu"), (torch.float32,))
    assert machine.kind == "cpu"
    assert 0 < machine.free <= psutil.virtual_memory().total
    assert 1e8 < machine.speeds[torch.float32] < 1e15
    assert 1e7 < machine.copying < 1e14


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "max", "memory.current": "10"}, None),
        ({"memory.max": "5000", "memory.current": "2000"}, 3000),
        ({"memory/memory.limit_in_bytes": "700", "memory/memory.usage_in_bytes": "900"}, 0),
        ({}, None),
    ],
)
def test_a_container_has_what_its_limit_leaves(tmp_path: Path, files: dict[str, str], left: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert _cgroup_bytes(tmp_path) == left


def test_the_smaller_of_machine_and_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnialpha.memory.machine._cgroup_bytes", lambda root: 12345)
    assert free_bytes(torch.device("cpu")) == 12345


@pytest.mark.gpu
def test_a_gpu_is_measured() -> None:
    machine = measure(torch.device("cuda"), (torch.bfloat16,))
    assert machine.speeds[torch.bfloat16] > 1e12
    assert machine.copying > machine.fetching > 1e8
