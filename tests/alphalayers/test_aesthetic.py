"""LAION-AES with a small CLIP in transformers' layout and a head with the real file's names and order of layers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPModel

from clip_folder import clip_folder, laion_head
from omnialpha import hub
from omnialpha.alphalayers import backends
from omnialpha.alphalayers.aesthetic import CLIP, HEAD, LaionAesthetic
from omnialpha.errors import CheckpointError

DIMENSIONS = 12


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("weights")
    clip_folder(folder / "clip", DIMENSIONS)
    torch.save(laion_head(DIMENSIONS).state_dict(), folder / HEAD)
    return folder / "clip", folder / HEAD


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))


@torch.no_grad()
def _expected(clip: Path, picture: Image.Image) -> float:
    """By transformers' own preparation and the head layer by layer."""
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    model = CLIPModel.from_pretrained(clip).eval()
    embedding = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    return float(laion_head(DIMENSIONS)["layers"](embedding / embedding.norm(dim=-1, keepdim=True)))  # type: ignore[index]


def _scorer(clip: str | Path, head: str | Path) -> LaionAesthetic:
    return backends.aesthetic(f"laion:{clip}#{head}")


def test_scores_are_those_of_the_authors_layers(files: tuple[Path, Path], tmp_path: Path) -> None:
    clip, head = files
    expected = _expected(clip, PICTURE)
    assert _scorer(clip, head)(PICTURE) == pytest.approx(expected, abs=1e-5)
    save_file(torch.load(head, weights_only=True), tmp_path / "head.safetensors")
    assert _scorer(clip, tmp_path / "head.safetensors")(PICTURE) == pytest.approx(expected, abs=1e-5)
    assert _scorer(clip, head)(Image.new("RGB", (40, 40))) != pytest.approx(expected, abs=1e-5)


def test_settings_name_the_weights(files: tuple[Path, Path], tmp_path: Path) -> None:
    clip, head = files
    scorer = _scorer(clip, head)
    other = tmp_path / "other.pth"
    state = torch.load(head, weights_only=True)
    torch.save({**state, "layers.7.bias": state["layers.7.bias"] + 1}, other)
    assert _scorer(clip, other).settings != scorer.settings
    assert _scorer(clip, other)(PICTURE) == pytest.approx(scorer(PICTURE) + 1)
    assert str(clip.parent) not in str(scorer.settings)


def test_it_may_travel_to_another_process(files: tuple[Path, Path]) -> None:
    scorer = _scorer(*files)
    assert pickle.loads(pickle.dumps(scorer))(PICTURE) == scorer(PICTURE)


def test_missing_weights_name_both_files(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, head = files
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "snapshot_download", _nothing_there)
    for arguments in ((clip, tmp_path / HEAD), (tmp_path / "clip", head), (tmp_path, head), (CLIP, head)):
        with pytest.raises(CheckpointError, match=f"hf download {CLIP} --local-dir CLIP.*{HEAD.replace('+', '.')}"):
            _scorer(*arguments)
    with pytest.raises(CheckpointError, match=f"names one file where two are needed.*{HEAD.replace('+', '.')}"):
        backends.aesthetic(f"laion:{clip}")


def _nothing_there(repo: str, **_: object) -> str:
    raise OSError("no network")


def test_wrong_weights_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    clip, head = files
    (tmp_path / "text.pth").write_text("<html>")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "another.pth")
    state = torch.load(head, weights_only=True)
    torch.save({**state, "layers.0.weight": torch.zeros(10, 768)}, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match="is not a file of weights"):
        _scorer(clip, tmp_path / "text.pth")
    with pytest.raises(CheckpointError, match="is not the LAION-AES head"):
        _scorer(clip, tmp_path / "another.pth")
    with pytest.raises(CheckpointError, match="12 dimensions, the head expects 768"):
        _scorer(clip, tmp_path / "wide.pth")(PICTURE)
