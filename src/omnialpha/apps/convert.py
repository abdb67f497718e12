"""`omnialpha convert-vae`: a four-channel VAE from an RGB VAE folder."""

import json
from pathlib import Path

from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from safetensors import SafetensorError

from omnialpha.errors import CheckpointError, InputError, OutputError
from omnialpha.imaging.files import atomic_folder
from omnialpha.models.vae import opaque_init

CLASSES = {"AutoencoderKLQwenImage": AutoencoderKLQwenImage, "AutoencoderKL": AutoencoderKL}


def convert_vae(source: Path, destination: Path, *, overwrite: bool = False) -> None:
    """Write the opaque initialisation (Eq. 4) of an RGB VAE.

    Args:
        source: Folder saved by diffusers: `config.json` and weights.
        destination: Folder to write; it appears whole or not at all.
        overwrite: Replace an existing folder.

    Raises:
        CheckpointError: The source is no VAE folder or cannot be loaded.
        InputError: Its class is not supported, or it is not an RGB VAE.
        OutputError: The destination exists or cannot be written.
    """
    config_file = source / "config.json"
    if not config_file.is_file():
        raise CheckpointError(
            f"{source}: no config.json; give the folder of a VAE saved by diffusers (often named vae)"
        )
    try:
        name = str(json.loads(config_file.read_text(encoding="utf-8")).get("_class_name"))
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{config_file}: is not a JSON object; download it again") from error
    if name not in CLASSES:
        raise InputError(f'{source}: is a "{name}"; only {" and ".join(CLASSES)} can be converted')
    if destination.exists() and not overwrite:
        raise OutputError(f"{destination}: exists already; choose another name or pass --overwrite")
    try:
        rgb_vae = CLASSES[name].from_pretrained(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{source}: cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    rgba_vae = opaque_init(rgb_vae)
    with atomic_folder(destination) as folder:
        rgba_vae.save_pretrained(folder)
