"""The alpha-aware VAE: opaque initialisation (Eq. 4), the released weights, and the single-frame fast path.

An RGBA VAE is diffusers' own `AutoencoderKLQwenImage(input_channels=4)` (or a 4-channel `AutoencoderKL`): no subclass.
`opaque_init` grows the alpha channel onto an RGB VAE without changing what it does, `load_rgba_vae` opens the
`rgba_vae/` folder of the released adapter, and `single_frame` makes the causal 3-D convolutions of the Qwen VAE run
as 2-D convolutions whenever they see one frame, which for images is always.

Shape suffixes: B batch, C channels, T frames, H height, W width.
"""

import json
import types
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d, QwenImageRMS_norm
from diffusers.models.autoencoders.vae import DecoderOutput
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from omnialpha.errors import CheckpointError, InputError
from omnialpha.models import strips

Vae = TypeVar("Vae", AutoencoderKLQwenImage, AutoencoderKL)

RELEASED_CLASS = "AutoencoderKLQwenImageAlpha"
OPAQUE = 1.0  # alpha = 1 in the VAE's [-1, 1] range


def opaque_init(rgb_vae: Vae) -> Vae:
    """Return an RGBA VAE that starts as the given RGB VAE (Eq. 4, opaque initialisation).

    RGB weights are copied; the weights that read alpha and the weights that write alpha are zero, and the bias of the
    alpha output is 1. So the RGB reconstruction is the RGB VAE's, the input's alpha is ignored, and the output's alpha
    is exactly opaque.

    Args:
        rgb_vae: an `AutoencoderKLQwenImage` or `AutoencoderKL` with 3 image channels. It is not changed.

    Returns:
        A new VAE of the same class, dtype and device with 4 image channels.

    Raises:
        InputError: the VAE is of another class or does not have 3 image channels.
    """
    if isinstance(rgb_vae, AutoencoderKLQwenImage):
        channels = {"input_channels": 4}
    elif isinstance(rgb_vae, AutoencoderKL):
        channels = {"in_channels": 4, "out_channels": 4}
    else:
        raise InputError(
            f"opaque_init takes an AutoencoderKLQwenImage or AutoencoderKL, not {type(rgb_vae).__name__}: "
            "load the RGB VAE with diffusers first."
        )
    found = rgb_vae.encoder.conv_in.in_channels
    if found != 3:
        raise InputError(
            f"opaque_init takes an RGB VAE (3 channels), this one has {found}: it needs no initialisation."
        )

    rgba_vae = type(rgb_vae).from_config({**rgb_vae.config, **channels})
    state = {name: value.clone() for name, value in rgb_vae.state_dict().items()}
    for name, axis, fill in (
        ("encoder.conv_in.weight", 1, 0.0),
        ("decoder.conv_out.weight", 0, 0.0),
        ("decoder.conv_out.bias", 0, OPAQUE),
    ):
        alpha = torch.full_like(state[name].narrow(axis, 0, 1), fill)
        state[name] = torch.cat([state[name], alpha], dim=axis)
    rgba_vae.load_state_dict(state)
    rgba_vae.to(rgb_vae.device)
    if rgba_vae.dtype != rgb_vae.dtype:  # diffusers logs every change of dtype
        rgba_vae.to(rgb_vae.dtype)
    return rgba_vae.train(rgb_vae.training)


def load_rgb_vae(folder: str | Path) -> AutoencoderKLQwenImage | AutoencoderKL:
    """Open the RGB VAE that an opaque initialisation starts from.

    Args:
        folder: saved by diffusers: `config.json` and weights.

    Raises:
        CheckpointError: it is no VAE folder, or cannot be loaded.
        InputError: its class is not supported.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise CheckpointError(
            f"{folder}: no config.json; give the folder of a VAE saved by diffusers (often named vae)"
        )
    try:
        name = str(json.loads(config_file.read_text(encoding="utf-8")).get("_class_name"))
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{config_file}: is not a JSON object; download it again") from error
    classes = {"AutoencoderKLQwenImage": AutoencoderKLQwenImage, "AutoencoderKL": AutoencoderKL}
    if name not in classes:
        raise InputError(f'{folder}: is a "{name}"; only {" and ".join(classes)} can be converted')
    try:
        return classes[name].from_pretrained(folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error


def load_rgba_vae(folder: str | Path, *, dtype: torch.dtype | None = None) -> AutoencoderKLQwenImage:
    """Open an RGBA VAE folder: the released `AutoencoderKLQwenImageAlpha` layout or diffusers' own.

    The released class is `AutoencoderKLQwenImage` with `in_channels` and `out_channels` in its config instead of
    `input_channels`; its weights have the same names, so they load unchanged.

    Args:
        folder: holds `config.json` and `diffusion_pytorch_model.safetensors`.
        dtype: dtype of the weights; that of the file when not given.

    Returns:
        The VAE in evaluation mode, with the single-frame fast path on.

    Raises:
        CheckpointError: a file is missing, or the folder holds something else.
    """
    folder = Path(folder)
    config_file, weights_file = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    for file in (config_file, weights_file):
        if not file.is_file():
            raise CheckpointError(f"{folder}: no {file.name}; an RGBA VAE folder holds config.json and the weights.")
    config = json.loads(config_file.read_text())
    if config.get("_class_name") == RELEASED_CLASS:
        image_channels = {config.pop("in_channels", None), config.pop("out_channels", None)}
        if image_channels != {4}:
            raise CheckpointError(f"{config_file}: expected in_channels = out_channels = 4, found {image_channels}.")
        config |= {"_class_name": AutoencoderKLQwenImage.__name__, "input_channels": 4}
    if config.get("_class_name") != AutoencoderKLQwenImage.__name__ or config.get("input_channels") != 4:
        raise CheckpointError(
            f"{config_file}: expected {RELEASED_CLASS} or AutoencoderKLQwenImage with input_channels 4, "
            f"found {config.get('_class_name')} with input_channels {config.get('input_channels', 3)}."
        )
    vae = AutoencoderKLQwenImage.from_config(config)
    state = load_file(weights_file)
    missing, unexpected = vae.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise CheckpointError(
            f"{weights_file}: weights do not fit the config ({len(missing)} missing, {len(unexpected)} unexpected, "
            f"first: {(missing + unexpected)[0]})."
        )
    target = dtype if dtype is not None else state["encoder.conv_in.weight"].dtype
    if target != vae.dtype:  # diffusers logs every call of `to`
        vae.to(target)
    return single_frame(vae.eval())


def encode_frame(vae: AutoencoderKLQwenImage, x_BCHW: Tensor) -> Tensor:
    """Encode one frame: images in [-1, 1] to the moments (mean, log-variance) of the posterior.

    Args:
        vae: a VAE prepared by `single_frame`.
        x_BCHW: (B, 4, H, W) images; H and W are multiples of the VAE's compression.

    Returns:
        (B, 2·z, H/8, W/8) moments.
    """
    if not _needs_modules(vae.encoder, x_BCHW):
        return strips.encode(vae, x_BCHW)
    x_BCTHW = x_BCHW.contiguous(memory_format=torch.channels_last).unsqueeze(2)
    # Without a feature cache the temporal resampling convolutions are skipped, as the stock code does for frame one.
    return vae.quant_conv(vae.encoder(x_BCTHW)).squeeze(2)


def decode_frame(vae: AutoencoderKLQwenImage, z_BCHW: Tensor) -> Tensor:
    """Decode one frame: latents to images, not clamped (so that gradients reach values beyond [-1, 1]).

    Args:
        vae: a VAE prepared by `single_frame`.
        z_BCHW: (B, z, h, w) latents, not normalised.

    Returns:
        (B, 4, 8h, 8w) images, nominally in [-1, 1].
    """
    if not _needs_modules(vae.decoder, z_BCHW):
        return strips.decode(vae, z_BCHW)
    z_BCTHW = z_BCHW.contiguous(memory_format=torch.channels_last).unsqueeze(2)
    return vae.decoder(vae.post_quant_conv(z_BCTHW)).squeeze(2)


def single_frame(vae: Vae) -> Vae:
    """Turn on the single-frame fast path of an `AutoencoderKLQwenImage`, in place.

    A causal 3-D convolution over one frame sees zeros in all but its last temporal tap, so it equals a 2-D convolution
    with `weight[:, :, -1]`; and nothing has to be cached for a next frame. Results equal the stock ones to float32
    rounding. Without gradients, large pictures pass by in strips (`models/strips.py`), which is also what
    `enable_tiling` then means. Videos (T > 1) keep the stock path. Weights, their names, config and class stay the
    same, so `save_pretrained`, `to`, half precision, deepcopy, checkpointing and training behave as before.

    Args:
        vae: changed in place; an `AutoencoderKL`, which has no frames, is returned as it is.

    Returns:
        The same VAE.
    """
    if not isinstance(vae, AutoencoderKLQwenImage):
        return vae
    for module in vae.modules():
        if type(module) is QwenImageCausalConv3d:
            module.__class__ = _FrameConv
        elif type(module) is QwenImageRMS_norm and module.channel_first:
            module.__class__ = _FrameNorm
    vae._encode = types.MethodType(_encode, vae)
    vae._decode = types.MethodType(_decode, vae)
    return vae


class _FrameConv(QwenImageCausalConv3d):
    """The causal convolution with a 2-D shortcut for one frame without history."""

    def forward(self, x_BCTHW: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if x_BCTHW.shape[2] > 1 or cache_x is not None:
            return super().forward(x_BCTHW, cache_x)
        out_BCHW = F.conv2d(
            x_BCTHW[:, :, 0],
            self.weight[:, :, -1],
            self.bias,
            stride=self.stride[1:],
            padding=(self._padding[2], self._padding[0]),
        )
        return out_BCHW.unsqueeze(2)


class _FrameNorm(QwenImageRMS_norm):
    """The same normalisation with two passes over memory instead of four (float32; half keeps the stock path)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return super().forward(x)
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)
        out = x * (self.scale / norm) * self.gamma
        return out if isinstance(self.bias, float) else out + self.bias


def _needs_modules(part: nn.Module, x_BCHW: Tensor) -> bool:
    """Whether encoder or decoder must be run by its modules' forward.

    That is so where gradients are wanted, and where hooks of the modules bring the weights: offloading keeps them on
    another device until then, layerwise casting in another dtype.
    """
    elsewhere = any(weight.device != x_BCHW.device or weight.dtype != x_BCHW.dtype for weight in part.parameters())
    return torch.is_grad_enabled() or elsewhere


def _encode(self: AutoencoderKLQwenImage, x_BCTHW: Tensor) -> Tensor:
    tiled_modules = self.use_tiling and _needs_modules(self.encoder, x_BCTHW)
    if x_BCTHW.shape[2] > 1 or tiled_modules:
        return AutoencoderKLQwenImage._encode(self, x_BCTHW)
    return encode_frame(self, x_BCTHW.squeeze(2)).unsqueeze(2)


def _decode(self: AutoencoderKLQwenImage, z_BCTHW: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
    tiled_modules = self.use_tiling and _needs_modules(self.decoder, z_BCTHW)
    if z_BCTHW.shape[2] > 1 or tiled_modules:
        return AutoencoderKLQwenImage._decode(self, z_BCTHW, return_dict=return_dict)
    sample = decode_frame(self, z_BCTHW.squeeze(2)).unsqueeze(2).clamp(-1.0, 1.0)
    return DecoderOutput(sample=sample) if return_dict else (sample,)
