"""The notebook examples/tour.ipynb runs, and what it shows was made by running it."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tiny
from omnialpha.imaging.layers import LayerStack

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_tour", EXAMPLES / "build_tour.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forms(notebook: dict[str, Any]) -> list[list[str]]:
    """For each code cell the kinds of what it shows."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [[kind for entry in cell["outputs"] for kind in (entry.get("data") or {"text": ""})] for cell in code]


def test_the_tour_runs_and_shows_what_it_holds(
    builder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the embedded checkpoint, as for a reader."""
    kept = json.loads(builder.TOUR.read_text())
    run = json.loads(builder.TOUR.read_text())
    monkeypatch.chdir(tmp_path)
    Path("images").symlink_to(EXAMPLES / "images")
    builder.execute(run)
    assert forms(run) == forms(kept)
    assert [cell["execution_count"] for cell in kept["cells"] if cell["cell_type"] == "code"] == list(range(1, 7))
    text = [cell["outputs"][-1]["data"]["text/plain"] for cell in (run["cells"][-2], kept["cells"][-2])]
    assert text[0] == text[1]  # the provenance does not depend on the machine
    assert len(LayerStack.open("layers.psd")) == 2
    assert builder.TOUR.stat().st_size < 150_000


def test_a_cell_shows_what_jupyter_would(builder: ModuleType) -> None:
    names: dict[str, Any] = {}
    assert builder.run_cell("a = 1\nprint(a)", names, 1) == [
        {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    ]
    (shown,) = builder.run_cell("a + 1", names, 2)
    assert (shown["data"], shown["execution_count"]) == ({"text/plain": "2"}, 2)
    (shown,) = builder.run_cell("picture", {"picture": tiny.picture()}, 3)
    assert set(shown["data"]) == {"image/png", "text/plain"}
    assert builder.run_cell("None", names, 4) == []
