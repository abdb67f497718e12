"""The terms of stage 1's loss (Eq. 2), each a plain function of tensors; every one is a mean over its elements.

    L(E, D) = λ_rec·L_rec + λ_perc·L_perc + λ_kl·L_kl(E; E_ref) + λ_ref·L_ref(E; N(0, I)) + λ_GAN·L_GAN

A trap in the names: in the paper's Eq. 2 λ_kl weighs the divergence from the reference encoder and λ_ref the one from
N(0, I). Here they are called by what they measure: `reference_kl` and `normal_kl`.

Shape suffixes: B batch, C channels, H height, W width. Pictures are straight RGBA in [-1, 1], as the VAE has them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from omnialpha.errors import InputError
from omnialpha.evaluation.lpips import LPIPS

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of RGB pictures (B, 3, H, W) in [0, 1] to (B,) distances that gradients pass through."""

SQUARE_WEIGHT = 2.0  # of the squared difference beside the absolute one: grey must not pass for a colour
LOGVAR_RANGE = (-30.0, 20.0)  # as in diffusers' DiagonalGaussianDistribution
PROXY_SCALES = 3
ADAPTIVE_EPSILON, ADAPTIVE_MAX = 1e-4, 1e4  # of VQGAN (Esser et al., CVPR 2021)
LPIPS_FILES = {
    "lpips_vgg": ("vgg16-397923af.pth", "vgg.pth"),
    "lpips_alex": ("alexnet-owt-7be5be79.pth", "alex.pth"),
}
"""The files of torchvision (backbone) and of the lpips package (v0.1) in `VaeConfig.lpips_folder`."""


def reconstruction_loss(output_B4HW: Tensor, target_B4HW: Tensor, colour_B3: Tensor) -> Tensor:
    """L_rec, alpha-aware L1 and L2: over black, over white, over a colour of each picture's own, and of alpha itself.

    What lies under alpha 0 does not count: it is seen over no background.

    Args:
        output_B4HW: straight RGBA in [-1, 1], not clamped.
        target_B4HW: the same, in [-1, 1].
        colour_B3: a background colour in [0, 1] for each picture, drawn at random while training.
    """
    output, target = output_B4HW / 2 + 0.5, target_B4HW / 2 + 0.5
    alpha, true_alpha = output[:, 3:], target[:, 3:]
    premultiplied, true_premultiplied = output[:, :3] * alpha, target[:, :3] * true_alpha
    loss = F.l1_loss(alpha, true_alpha)
    for background in (0, 1, colour_B3[:, :, None, None]):
        # F·α + B(1 − α), for both pictures: the difference is taken of the composites.
        difference = (premultiplied - true_premultiplied) - background * (alpha - true_alpha)
        loss = loss + (difference.abs() + SQUARE_WEIGHT * difference.square()).mean()
    return loss / 4


def perceptual_loss(distance: Distance, output_B4HW: Tensor, target_B4HW: Tensor) -> Tensor:
    """L_perc: a perceptual distance of the pictures over black and over white."""
    return distance(_over_black_and_white(output_B4HW), _over_black_and_white(target_B4HW)).mean()


def perceptual_distance(name: str, folder: str | Path, device: str = "cpu") -> Distance:
    """The distance behind the perceptual term.

    Args:
        name: "lpips_vgg", "lpips_alex", or "gradient_proxy", which needs no weights.
        folder: holds the files of `LPIPS_FILES`; not looked at for the proxy.
        device: where the network runs.

    Raises:
        InputError: there is no such distance.
        CheckpointError: a file of weights is missing; the message says which.
    """
    if name == "gradient_proxy":
        return gradient_proxy
    if name not in LPIPS_FILES:
        names = ", ".join((*LPIPS_FILES, "gradient_proxy"))
        raise InputError(f"perceptual: expected one of {names}, got {name!r}.")
    backbone: Literal["alex", "vgg"] = "vgg" if name == "lpips_vgg" else "alex"
    backbone_file, heads_file = (Path(folder) / file for file in LPIPS_FILES[name])
    return LPIPS(backbone_file, heads_file, backbone, device).distances


def gradient_proxy(pred_B3HW: Tensor, target_B3HW: Tensor) -> Tensor:
    """A stand-in for LPIPS without a network: mean absolute difference of the pictures' gradients at three scales.

    It punishes blur, as LPIPS does, but knows nothing of what people see: scores of the two do not compare.

    Args:
        pred_B3HW: RGB in [0, 1].
        target_B3HW: the same.

    Returns:
        (B,) distances, 0 for pictures that differ by a constant at most.
    """
    difference = pred_B3HW - target_B3HW  # differentiation is linear: the gradients' difference is this one's gradient
    total = torch.zeros(len(difference), device=difference.device)
    for scale in range(PROXY_SCALES):
        if scale:
            difference = F.avg_pool2d(difference, 2)
        for axis in (2, 3):
            total = total + difference.diff(dim=axis).abs().mean(dim=(1, 2, 3))
    return total / (2 * PROXY_SCALES)


def gaussian_kl(moments_BCHW: Tensor, reference_BCHW: Tensor | None = None) -> Tensor:
    """KL(q ‖ r) of diagonal Gaussians, mean over latent elements, in nats.

    0.5·((μ − μ_r)²/σ_r² + σ²/σ_r² − 1 − ln σ²/σ_r²); L_ref with r = N(0, I), L_kl with r from the frozen encoder.

    Args:
        moments_BCHW: mean and log-variance of q, one after the other along the channels.
        reference_BCHW: those of r; N(0, I) when not given.

    >>> moments = torch.randn(1, 4, 2, 2)
    >>> gaussian_kl(moments, moments).item(), gaussian_kl(torch.zeros(1, 4, 2, 2)).item()
    (0.0, 0.0)
    """
    mean, logvar = mean_and_logvar(moments_BCHW)
    if reference_BCHW is None:
        return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    reference_mean, reference_logvar = mean_and_logvar(reference_BCHW)
    difference = logvar - reference_logvar
    squared = (mean - reference_mean).square() * (-reference_logvar).exp()
    return 0.5 * (squared + difference.exp() - 1 - difference).mean()


def sample_latents(moments_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
    """Draw z = μ + σ·ε: half as many channels as the moments."""
    mean, logvar = mean_and_logvar(moments_BCHW)
    return mean + noise_BCHW * (0.5 * logvar).exp()


def mean_and_logvar(moments_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of the moments, the log-variance kept in a range whose exponential is finite."""
    mean, logvar = moments_BCHW.chunk(2, dim=1)
    return mean, logvar.clamp(*LOGVAR_RANGE)


def opaque_composites(x_B4HW: Tensor) -> Tensor:
    """The pictures over black, then over white, with alpha set opaque: where an RGB encoder knows what to do.

    Args:
        x_B4HW: straight RGBA in [-1, 1].

    Returns:
        (2B, 4, H, W) in [-1, 1], alpha 1.
    """
    return F.pad(_over_black_and_white(x_B4HW) * 2 - 1, (0, 0, 0, 0, 0, 1), value=1.0)


def premultiplied(x_B4HW: Tensor) -> Tensor:
    """Colour times alpha, and alpha: what the discriminator sees, since hidden colours would give the decoder away.

    Args:
        x_B4HW: straight RGBA in [-1, 1].

    Returns:
        (B, 4, H, W) in [-1, 1].
    """
    rgba = x_B4HW / 2 + 0.5
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], dim=1) * 2 - 1


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator's side of L_GAN: hinge loss, which stops pushing what is beyond ±1.

    >>> discriminator_loss(torch.tensor([2.0]), torch.tensor([-3.0])).item()
    0.0
    """
    return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2


def generator_loss(fake_logits: Tensor) -> Tensor:
    """The autoencoder's side of L_GAN: raise the discriminator's verdict."""
    return -fake_logits.mean()


def adaptive_weight(reconstruction: Tensor, generator: Tensor, last_layer: Tensor) -> Tensor:
    """The factor that makes the GAN's gradient as large as the reconstruction's, at the decoder's last layer.

    ‖∂L_rec/∂w‖ / (‖∂L_GAN/∂w‖ + 10⁻⁴), at most 10⁴ (VQGAN's rule).

    Args:
        reconstruction: scalar, with its graph.
        generator: the same.
        last_layer: weight of the decoder's last convolution.

    Returns:
        Scalar without gradient.
    """
    (reconstruction_gradient,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (generator_gradient,) = torch.autograd.grad(generator, last_layer, retain_graph=True)
    return (reconstruction_gradient.norm() / (generator_gradient.norm() + ADAPTIVE_EPSILON)).clamp(max=ADAPTIVE_MAX)


def _over_black_and_white(x_B4HW: Tensor) -> Tensor:
    """Straight RGBA in [-1, 1] to (2B, 3, H, W) in [0, 1]."""
    rgba = x_B4HW / 2 + 0.5
    colour, alpha = rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]
    return torch.cat([colour, colour + (1 - alpha)])
