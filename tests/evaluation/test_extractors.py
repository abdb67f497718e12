"""Extractors and LPIPS with small random stand-ins of the real file formats; nothing is downloaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.image.fid import FrechetInceptionDistance

from clip_folder import clip_folder
from omnialpha.errors import CheckpointError, InputError
from omnialpha.evaluation import extractors
from omnialpha.evaluation.generation import fid
from omnialpha.evaluation.lpips import LPIPS

PICTURE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


class _Layers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) * 128 + 128


class _Inception(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _Layers()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_inception_gets_prepared_pixels(tmp_path: Path) -> None:
    torch.jit.script(_Inception()).save(str(tmp_path / "inception.pt"))
    features = extractors.inception(tmp_path / "inception.pt")(PICTURE)
    pixels = extractors.inception_pixels(PICTURE)
    assert pixels.shape == (3, 299, 299)
    assert features == pytest.approx(pixels.mean(axis=(1, 2)), rel=1e-4)
    assert extractors.inception_pixels(PICTURE / 255) == pytest.approx(pixels, abs=1e-3)
    assert not np.array_equal(pixels, np.rint(pixels))  # never rounded to bytes


def test_clip_embeds_the_centre_crop(tmp_path: Path) -> None:
    model = clip_folder(tmp_path)
    pixels = extractors.clip_pixels(PICTURE, 32)
    crop = Image.fromarray(PICTURE).resize((44, 32), Image.Resampling.BICUBIC).crop((6, 0, 38, 32))
    mean, std = (np.array(values) for values in (extractors._CLIP_MEAN, extractors._CLIP_STD))
    assert pixels.transpose(1, 2, 0) * std + mean == pytest.approx(np.asarray(crop) / 255, abs=1e-5)
    with torch.no_grad():
        hidden = model.vision_model(torch.from_numpy(pixels)[None]).pooler_output
        expected = model.visual_projection(hidden)[0].numpy()
    assert extractors.clip(tmp_path)(PICTURE) == pytest.approx(expected, abs=1e-5)


def _alex_files(folder: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    state = {f"features.{i}.weight": torch.randn(o, c, k, k) * 0.05 for i, (o, c, k) in shapes.items()}
    state |= {f"features.{i}.bias": torch.randn(o) * 0.1 for i, (o, _, _) in shapes.items()}
    channels = (64, 192, 384, 256, 256)
    lins = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(channels)}
    torch.save(state, folder / "backbone.pth")
    torch.save(lins, folder / "alex.pth")
    return folder / "backbone.pth", folder / "alex.pth"


def test_lpips_literally(tmp_path: Path) -> None:
    """Against AlexNet as torchvision defines it, module by module, and the paper's formula."""
    files = _alex_files(tmp_path)
    state, lins = (torch.load(file, weights_only=True) for file in files)
    nn = torch.nn
    net = nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
        *(nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1)),
        *(nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )
    net.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    other = np.clip(PICTURE.astype(int) + 40, 0, 255).astype(np.uint8)
    x = torch.from_numpy(np.stack([PICTURE, other])).float().permute(0, 3, 1, 2) / 127.5 - 1
    x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    expected, tap = 0.0, 0
    with torch.no_grad():
        for index, module in enumerate(net):
            x = module(x)
            if index in (1, 4, 7, 9, 11):
                unit = x / x.norm(dim=1, keepdim=True).clamp(min=1e-10)
                weight = lins[f"lin{tap}.model.1.weight"].view(-1, 1, 1)
                expected += float(((unit[0] - unit[1]) ** 2 * weight).sum(0).mean())
                tap += 1
    lpips = LPIPS(*files)
    assert lpips(PICTURE, other) == pytest.approx(expected, rel=1e-4)
    assert lpips(other, PICTURE) == pytest.approx(lpips(PICTURE, other), rel=1e-5)
    assert lpips(PICTURE, PICTURE) == 0
    with pytest.raises(InputError, match="32×32"):
        lpips(PICTURE[:20], PICTURE[:20])


def test_extractors_serve_torchmetrics() -> None:
    """Its FID on our features is ours; in 64 dimensions from 40 pictures, so the covariances are singular."""
    projection = np.random.default_rng(1).normal(size=(12, 64))
    rng = np.random.default_rng(2)
    real, fake = (rng.integers(0, high, (40, 3, 2, 2), np.uint8) for high in (256, 200))

    def extract(image: Any) -> np.ndarray:
        return np.asarray(Image.fromarray(image).resize((2, 2)), np.float64).reshape(-1) / 255 @ projection

    metric = FrechetInceptionDistance(feature=extractors.as_module(extract))
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    ours = fid(np.moveaxis(fake, 1, -1), np.moveaxis(real, 1, -1), extract)
    assert float(metric.compute()) == pytest.approx(ours, rel=1e-4)


def test_missing_weights_say_which_and_where_from(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    attempts: list[tuple[Any, str]] = [
        (lambda: extractors.inception(missing), "inception-2015-12-05.pt"),
        (lambda: extractors.clip(missing), "hf download openai/clip-vit-base-patch32"),
        (lambda: extractors.clip_text(missing), "hf download openai/clip-vit-base-patch32"),
        (lambda: LPIPS(missing, missing), "torchvision's ImageNet weights of alex"),
    ]
    for attempt, message in attempts:
        with pytest.raises(CheckpointError, match=message):
            attempt()


def test_wrong_weights(tmp_path: Path) -> None:
    backbone, lins = _alex_files(tmp_path)
    with pytest.raises(CheckpointError, match="not the TorchScript"):
        extractors.inception(backbone)
    with pytest.raises(CheckpointError, match="lack 'lin0"):
        LPIPS(backbone, backbone)
    with pytest.raises(CheckpointError, match="other backbone"):
        LPIPS(backbone, lins, backbone="vgg")
    with pytest.raises(InputError, match='"alex" or "vgg"'):
        LPIPS(backbone, lins, backbone="resnet")  # type: ignore[arg-type]
