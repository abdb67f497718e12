"""`omnialpha convert-vae`: a four-channel VAE from an RGB VAE folder."""

from pathlib import Path

from omnialpha.errors import OutputError
from omnialpha.imaging.files import atomic_folder
from omnialpha.models.vae import load_rgb_vae, opaque_init


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
    if destination.exists() and not overwrite:
        raise OutputError(f"{destination}: exists already; choose another name or pass --overwrite")
    rgba_vae = opaque_init(load_rgb_vae(source))
    with atomic_folder(destination) as folder:
        rgba_vae.save_pretrained(folder)
