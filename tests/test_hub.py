"""Downloading with the real hub client from a local server: progress, cache, offline, broken connections.

The client reads its environment when it is imported, so each step runs in its own interpreter, as for a user.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tiny
from hub_server import COMMIT, Hub, serve
from omnialpha.hub import CHECKPOINTS

BASE, ADAPTER = "Qwen/Qwen-Image-Edit-2509", "Longin-Yu/OmniAlpha"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def repos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tiny.write_base(tmp_path_factory.mktemp("base"))
    (base / "README.md").write_text("not needed")
    (base / "all_in_one.safetensors").write_bytes(b"not needed either")
    return {BASE: base, ADAPTER: tiny.write_adapter(tmp_path_factory.mktemp("adapter"))}


@pytest.fixture
def hub(repos: dict[str, Path]) -> Iterator[Hub]:
    with serve(Hub(repos)) as hub:
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """Run code in a new interpreter that knows the local hub and has an empty cache."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), **environment}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=kept | environment
        )

    return run


LOCATE = """
from omnialpha.errors import OmniAlphaError
from omnialpha.hub import locate
try:
    print(*locate(NAME))
except OmniAlphaError as error:
    print(type(error).__name__, error)
"""
RELEASED = LOCATE.replace("NAME", '"omnialpha"')


def test_the_released_name_stands_for_base_and_adapter() -> None:
    assert (CHECKPOINTS["omnialpha"].base, CHECKPOINTS["omnialpha"].adapter) == (BASE, ADAPTER)


@pytest.mark.slow  # imports torch once more
def test_load_by_name(run: Run) -> None:
    result = run(
        "import omnialpha; pipe = omnialpha.load('omnialpha', device='cpu');"
        "print(pipe.profile.name, pipe.vae.config.input_channels, *pipe.transformer.peft_config)"
    )
    assert result.stdout.split() == ["released", "4", "default"], result.stderr


def test_only_what_is_needed_is_fetched_once_and_with_progress(hub: Hub, run: Run) -> None:
    first = run(RELEASED)
    base, adapter = first.stdout.split()
    assert Path(base).name == Path(adapter).name == COMMIT
    assert (Path(base) / WEIGHTS).read_bytes() == (hub.repos[BASE] / WEIGHTS).read_bytes()
    assert hub.downloaded(ADAPTER) >= {"rgba_vae/config.json", "lora/pytorch_lora_weights.safetensors"}
    fetched = hub.downloaded(BASE)
    assert {"model_index.json", "processor/preprocessor_config.json", WEIGHTS} <= fetched
    assert not any(path.startswith("vae/") or path in ("README.md", "all_in_one.safetensors") for path in fetched)
    assert "100%" in first.stderr

    count = len(hub.downloads)
    assert run(RELEASED).stdout == first.stdout
    assert run(RELEASED, HF_HUB_OFFLINE="1").stdout == first.stdout
    assert len(hub.downloads) == count


def test_a_cut_connection_is_resumed_where_it_stopped(hub: Hub, run: Run, tmp_path: Path) -> None:
    chunk = 10 * 1024 * 1024  # the client writes, and so keeps, whole chunks
    content = np.random.default_rng(0).bytes(3 * chunk)
    large = tmp_path / "large"
    (large / "transformer").mkdir(parents=True)
    (large / "model_index.json").write_text("{}")
    (large / WEIGHTS).write_bytes(content)
    hub.repos = {"some/model": large}
    hub.cuts[WEIGHTS] = 1
    (folder, _) = run(LOCATE.replace("NAME", '"some/model"')).stdout.split()
    assert [wanted for _, path, wanted in hub.downloads if path == WEIGHTS] == [None, f"bytes={chunk}-"]
    assert (Path(folder) / WEIGHTS).read_bytes() == content


def test_offline_is_refused_with_the_remedy(hub: Hub, run: Run) -> None:
    result = run(RELEASED, HF_HUB_OFFLINE="1")
    assert result.stdout.startswith(f'CheckpointError "{BASE}" is not (completely) in the local cache')
    assert "HF_HUB_OFFLINE is set" in result.stdout
    assert "go online once" in result.stdout
    assert result.stdout.count("\n") == 1
    assert hub.downloads == []


def test_a_partial_cache_is_not_taken_for_a_whole_one(hub: Hub, run: Run) -> None:
    hub.cuts[WEIGHTS] = 1000
    impatient = "import time; time.sleep = lambda seconds: None\n"  # the client rests between its attempts
    broken = run(impatient + RELEASED, HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert broken.stdout.startswith(f'CheckpointError downloading "{BASE}" broke off'), broken.stdout + broken.stderr
    assert "run the same again" in broken.stdout
    offline = run(RELEASED, HF_HUB_OFFLINE="1")
    assert offline.stdout.startswith(f'CheckpointError "{BASE}" is not (completely)')

    hub.cuts.clear()
    before = len(hub.downloads)
    base, _ = run(RELEASED).stdout.split()
    assert (Path(base) / WEIGHTS).read_bytes() == (hub.repos[BASE] / WEIGHTS).read_bytes()
    assert "tokenizer/vocab.json" not in {path for _, path, _ in hub.downloads[before:]}


def test_hub_that_does_not_answer(run: Run) -> None:
    result = run(RELEASED, HF_ENDPOINT="http://127.0.0.1:9")
    assert "CheckpointError" in result.stdout
    assert "the hub cannot be reached; go online once" in result.stdout


def test_unknown_and_gated_repositories(hub: Hub, run: Run) -> None:
    unknown = run(LOCATE.replace("NAME", '"no/such"'))
    assert unknown.stdout.startswith('CheckpointError "no/such" does not exist on the hub')
    hub.gated.add(BASE)
    gated = run(RELEASED)
    assert gated.stdout.startswith(f'CheckpointError "{BASE}" needs an account')


def test_one_file_of_a_repository_is_fetched_alone(hub: Hub, run: Run) -> None:
    code = LOCATE.replace("locate", "locate_file").replace("*locate_file(NAME)", "locate_file(NAME)")
    found = run(code.replace("NAME", f'"{BASE}/{WEIGHTS}"'))
    assert Path(found.stdout.strip()).read_bytes() == (hub.repos[BASE] / WEIGHTS).read_bytes()
    assert hub.downloaded(BASE) == {WEIGHTS}
    missing = run(code.replace("NAME", f'"{BASE}/lightning.safetensors"'))
    assert missing.stdout.startswith(f'CheckpointError "{BASE}" on the hub has no file "lightning.safetensors"')
