"""Look at a VAE while it is trained: PSNR and SSIM of alpha and of colour on held-out cut-outs, and a page of pictures.

Shape suffixes: B batch, H height, W width.
"""

from statistics import fmean

import numpy as np
import torch
from diffusers import AutoencoderKLQwenImage
from PIL import Image
from torch import Tensor

from omnialpha.evaluation.accumulate import Mean
from omnialpha.evaluation.generation import psnr, rgba_psnr, rgba_ssim, ssim
from omnialpha.models.vae import decode_frame, encode_frame

BEST_PSNR = 100.0  # dB: that of equal pictures is infinite, and so would be every mean with one of them


@torch.no_grad()
def validate(vae: AutoencoderKLQwenImage, pictures_B4HW: Tensor) -> tuple[dict[str, float], Image.Image]:
    """Encode (mean) and decode held-out pictures, score them, and lay them beside their originals.

    Args:
        vae: in evaluation mode.
        pictures_B4HW: straight RGBA in [-1, 1], at least 11 pixels high and wide.

    Returns:
        Means over the pictures: `rgb_psnr` and `rgb_ssim` over AlphaVAE's nine backgrounds, `alpha_psnr` and
        `alpha_ssim` of alpha as a grey picture; PSNR in dB, at most 100.
        And the page of `picture_page`.
    """
    mean = Mean()
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for picture_4HW in pictures_B4HW:
        moments = encode_frame(vae, picture_4HW[None].to(vae.device))
        output = decode_frame(vae, moments.chunk(2, dim=1)[0])[0].float().cpu()
        pair = (_to_array(picture_4HW), _to_array(output))
        mean.update(reconstruction_scores(pair[1], pair[0]))
        pairs.append(pair)
    return mean.compute(), picture_page(pairs)


def reconstruction_scores(pred: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """PSNR and SSIM of one picture, of its colour over nine backgrounds and of its alpha.

    Args:
        pred: straight RGBA (H, W, 4) in [0, 1].
        target: the same.

    >>> picture = np.full((16, 16, 4), 0.5)
    >>> reconstruction_scores(picture, picture)["alpha_psnr"]
    100.0
    """
    pred_alpha, alpha = pred[..., [3, 3, 3]], target[..., [3, 3, 3]]
    return {
        "rgb_psnr": fmean(min(value, BEST_PSNR) for value in rgba_psnr(pred, target).values()),
        "rgb_ssim": fmean(rgba_ssim(pred, target).values()),
        "alpha_psnr": min(psnr(pred_alpha, alpha), BEST_PSNR),
        "alpha_ssim": ssim(pred_alpha, alpha),
    }


def picture_page(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Image.Image:
    """A row for each picture: original and reconstruction over black, then both over white.

    Args:
        pairs: original and reconstruction, straight RGBA (H, W, 4) in [0, 1].
    """
    rows = []
    for pair in pairs:
        cells = [p[..., :3] * p[..., 3:] + value * (1 - p[..., 3:]) for value in (0, 1) for p in pair]
        rows.append(np.concatenate(cells, axis=1))
    return Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8))


def _to_array(picture_4HW: Tensor) -> np.ndarray:
    return (picture_4HW / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
