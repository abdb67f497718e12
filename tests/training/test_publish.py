"""Publishing a run: a loadable float16 checkpoint, a card written from the run's own files, a size that is kept."""

import json

import pytest
import torch
from safetensors.torch import load_file

import omnialpha
import tiny
from corpus import make_corpus
from omnialpha.errors import CheckpointError
from omnialpha.training import publish as module
from omnialpha.training.publish import publish


@pytest.fixture
def runs(tmp_path):
    folders = []
    for name, step in (("vae", 30), ("joint", 70)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"steps": step, "seed": 5}))
        (folder / "log.jsonl").write_text(json.dumps({"step": step, "loss": 0.123456}) + "\n")
        folders.append(folder)
    tiny.pipeline().save_pretrained(folders[-1] / "pipeline")
    return folders


def test_the_result_loads_in_half_the_size_and_says_where_it_came_from(runs, tmp_path) -> None:
    corpora = make_corpus(tmp_path / "corpora")
    publish(runs[-1], tmp_path / "nano", earlier=runs[:-1], corpora=corpora)
    publish(runs[-1], tmp_path / "nano", earlier=runs[:-1], corpora=corpora)  # replaces the one before
    stored = load_file(tmp_path / "nano" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    loaded, original = omnialpha.load(tmp_path / "nano"), omnialpha.load(runs[-1] / "pipeline")
    assert loaded.profile == original.profile
    weight = original.transformer.img_in.weight
    torch.testing.assert_close(loaded.transformer.img_in.weight, weight, atol=1e-3, rtol=1e-3)

    card = (tmp_path / "nano" / "README.md").read_text()
    assert "| foreground | tests | CC0-1.0 | train | 4 |" in card
    assert "| vae | 30 | steps 30, seed 5 |" in card
    assert "loss 0.1235" in card
    texts = [file.read_text() for kind in ("*.json", "*.md") for file in (tmp_path / "nano").rglob(kind)]
    assert not any(str(tmp_path) in text for text in texts)


def test_going_on_from_a_published_checkpoint_keeps_its_stages(runs, tmp_path) -> None:
    corpora = make_corpus(tmp_path / "corpora")
    publish(runs[-1], tmp_path / "nano", earlier=runs[:-1], corpora=corpora)
    runs[-1].rename(tmp_path / "longer")
    publish(tmp_path / "longer", tmp_path / "next", earlier=[tmp_path / "nano"], corpora=corpora)
    table = (tmp_path / "next" / "README.md").read_text().split("## Training\n")[1].split("## Scores")[0]
    assert [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")] == [
        "stage",
        "vae",
        "joint",
        "longer",
    ]


def test_a_checkpoint_too_large_for_the_package_is_refused_and_nothing_is_left(runs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "LIMIT_MB", 0.001)
    with pytest.raises(CheckpointError, match="train a smaller model"):
        publish(runs[-1], tmp_path / "nano", earlier=[], corpora=make_corpus(tmp_path / "corpora"))
    assert not (tmp_path / "nano").exists()
