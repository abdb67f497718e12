"""The networks of stage 1 (the VAE that learns, its frozen reference, the discriminator) and their optimisers."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKLQwenImage
from torch import Tensor
from torch.optim import Optimizer

from omnialpha.errors import InputError
from omnialpha.models.vae import load_rgb_vae, opaque_init, single_frame
from omnialpha.training.discriminator import PatchDiscriminator
from omnialpha.training.losses import Distance, perceptual_distance
from omnialpha.training.optim import Muon
from omnialpha.training.vae_config import VaeConfig

Z_DIM = 16
FIRST_LOGVAR = -6.0


@dataclass(kw_only=True)
class VaeModels:
    """What a step needs; what a recipe gives no weight to is None.

    Attributes:
        vae: the one that learns.
        reference: the VAE as it was at the start, frozen.
        discriminator: judges reconstructions.
        distance: the perceptual one.
    """

    vae: AutoencoderKLQwenImage
    reference: AutoencoderKLQwenImage | None
    discriminator: PatchDiscriminator | None
    distance: Distance | None


def build_models(config: VaeConfig, device: torch.device) -> VaeModels:
    """Make the networks that the recipe gives weights to; those from scratch are fixed by the seed.

    Raises:
        CheckpointError: the RGB VAE or the weights of LPIPS are not there.
        InputError: `rgb_vae` is no RGB VAE of the Qwen kind.
    """
    torch.manual_seed(config.seed)
    if config.rgb_vae:
        rgb_vae = load_rgb_vae(config.rgb_vae)
        if not isinstance(rgb_vae, AutoencoderKLQwenImage):
            raise InputError(f"{config.rgb_vae}: expected an AutoencoderKLQwenImage, found a {type(rgb_vae).__name__}.")
        vae = single_frame(opaque_init(rgb_vae))
    else:
        vae = build_vae(config)
    # A picture has one frame: what mixes frames never runs, and gets no gradient that could be averaged.
    for name, parameter in vae.named_parameters():
        parameter.requires_grad_("time_conv" not in name)
    reference = copy.deepcopy(vae).eval().requires_grad_(False).to(device) if config.reference_kl_weight else None
    discriminator = PatchDiscriminator(config.discriminator_dim).to(device) if config.gan_weight else None
    distance = None
    if config.perceptual_weight:
        distance = perceptual_distance(config.perceptual, config.lpips_folder, str(device))
    return VaeModels(vae=vae.to(device).train(), reference=reference, discriminator=discriminator, distance=distance)


def build_vae(config: VaeConfig) -> AutoencoderKLQwenImage:
    """A VAE of the released class with random weights and no temporal layers (pictures have one frame)."""
    vae = AutoencoderKLQwenImage(
        input_channels=4,
        base_dim=config.base_dim,
        z_dim=Z_DIM,
        dim_mult=list(config.dim_mult),
        num_res_blocks=config.num_res_blocks,
        temperal_downsample=[False] * (len(config.dim_mult) - 1),
        latents_mean=[0.0] * Z_DIM,
        latents_std=[1.0] * Z_DIM,
    )
    for name, module in vae.named_modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d)):
            initialise(module, branch_end=name.endswith((".conv2", ".proj")))
    # Start with little noise on the latents: at variance 1 all but the strongest signal drowns, and colour, which is
    # weaker than brightness, is never learnt.
    torch.nn.init.constant_(vae.quant_conv.bias[Z_DIM:], FIRST_LOGVAR)
    return single_frame(vae)


@torch.no_grad()
def initialise(conv: torch.nn.Conv2d | torch.nn.Conv3d, *, branch_end: bool) -> None:
    """Let a convolution keep the size of its input, and a residual branch start at zero.

    The default spreads weights over three temporal taps, of which one frame uses the last: signals shrink from layer
    to layer until the biases drown them, and colour is never learnt.
    """
    weight = conv.weight if conv.weight.ndim == 4 else conv.weight[:, :, -1]
    conv.weight.zero_()
    if not branch_end:
        weight.normal_(std=weight[0].numel() ** -0.5)
    if conv.bias is not None:
        conv.bias.zero_()


def make_optimizers(vae: AutoencoderKLQwenImage, config: VaeConfig) -> list[Optimizer]:
    """AdamW as in the paper (§4.1), or Muon for the inner convolutions and AdamW for the two ends, norms and biases."""
    trained = {name: weight for name, weight in vae.named_parameters() if weight.requires_grad}
    if config.optimizer == "adamw":
        return [adamw(trained.values(), config)]
    inner: list[Tensor] = []
    rest: list[Tensor] = []
    for name, weight in trained.items():
        end = any(part in name for part in ("conv_in.", "conv_out.", "quant_conv.", "norm"))
        (rest if end or weight.ndim < 3 else inner).append(weight)
    others = torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    return [Muon(inner, lr=config.learning_rate), others]


def adamw(parameters: Iterable[Tensor], config: VaeConfig) -> Optimizer:
    """The paper's optimiser, also the discriminator's."""
    return torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.999))
