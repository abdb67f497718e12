"""The parts of the network: VAE, positions, transformer, latents, prompt conditioning, adapters and profiles."""

import importlib
from types import ModuleType

__all__ = ["latents", "lora", "pictures", "profile", "prompt", "rope", "sampling", "transformer", "vae"]


def __getattr__(name: str) -> ModuleType:
    # `omnialpha.models.vae.opaque_init` works after `import omnialpha`, and costs nothing until it is used.
    if name in __all__:
        return importlib.import_module(f"omnialpha.models.{name}")
    raise AttributeError(f"module 'omnialpha.models' has no attribute {name!r}")
