"""Validation of a VAE: scores of the saved model through the stock path, and a page that shows both backgrounds."""

import numpy as np
import pytest
import torch

import tiny
from omnialpha.evaluation.generation import psnr, rgba_psnr, rgba_ssim, ssim
from omnialpha.models.vae import single_frame
from omnialpha.training.vae_validation import reconstruction_scores, validate


def test_scores_and_page() -> None:
    pictures = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    stock = tiny.rgba_vae()
    with torch.no_grad():
        outputs = stock.decode(stock.encode(pictures.unsqueeze(2)).latent_dist.mode()).sample.squeeze(2)
    scores, page = validate(single_frame(tiny.rgba_vae()), pictures)

    pairs = [tuple(x.permute(1, 2, 0).numpy() / 2 + 0.5 for x in pair) for pair in zip(outputs, pictures, strict=True)]
    expected = {
        "rgb_psnr": np.mean([list(rgba_psnr(*pair).values()) for pair in pairs]),
        "rgb_ssim": np.mean([list(rgba_ssim(*pair).values()) for pair in pairs]),
        "alpha_psnr": np.mean([psnr(*(x[..., [3] * 3] for x in pair)) for pair in pairs]),
        "alpha_ssim": np.mean([ssim(*(x[..., [3] * 3] for x in pair)) for pair in pairs]),
    }
    assert scores == pytest.approx(expected, rel=1e-3)

    assert page.size == (4 * 32, 2 * 32)
    shown = np.asarray(page, np.float32) / 255
    for row, (output, picture) in enumerate(pairs):
        cells = shown[row * 32 : (row + 1) * 32].reshape(32, 4, 32, 3).transpose(1, 0, 2, 3)
        for cell, x, behind in zip(cells, (picture, output) * 2, (0, 0, 1, 1), strict=True):
            np.testing.assert_allclose(
                cell, x[..., :3] * x[..., 3:] + behind * (1 - x[..., 3:]), atol=0.51 / 255 + 1e-4
            )


def test_perfect_pictures_have_a_finite_mean() -> None:
    picture = np.random.default_rng(0).random((16, 16, 4))
    assert reconstruction_scores(picture, picture) == {
        "rgb_psnr": 100, "rgb_ssim": pytest.approx(1), "alpha_psnr": 100, "alpha_ssim": pytest.approx(1)
    }  # fmt: skip
    opaque = picture.copy()
    opaque[..., 3] = 1
    scores = reconstruction_scores(opaque, picture)
    assert scores["alpha_psnr"] < 10
    assert scores["rgb_psnr"] < 30
