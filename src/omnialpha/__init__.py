"""OmniAlpha: one model for transparent images; RGBA pictures in, RGBA layers out.

    import omnialpha

    pipe = omnialpha.load("nano")
    stack = pipe(task="decomposition_auto", images=["photo.png"], seed=0).stacks[0]
    stack.save("layers.psd")

Names are imported when they are first used, so that ``import omnialpha`` stays light (no torch).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnialpha import errors, models, tasks
    from omnialpha.checkpoints import load
    from omnialpha.imaging.layers import Layer, LayerStack
    from omnialpha.outputs import OmniAlphaOutput
    from omnialpha.pipeline import OmniAlphaPipeline

__version__ = "0.1.0"

__all__ = [
    "Layer",
    "LayerStack",
    "OmniAlphaOutput",
    "OmniAlphaPipeline",
    "__version__",
    "errors",
    "load",
    "models",
    "tasks",
]

_HOMES = {
    "Layer": "omnialpha.imaging.layers",
    "LayerStack": "omnialpha.imaging.layers",
    "OmniAlphaOutput": "omnialpha.outputs",
    "OmniAlphaPipeline": "omnialpha.pipeline",
    "load": "omnialpha.checkpoints",
}
_MODULES = ("errors", "models", "tasks")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"omnialpha.{name}")
    raise AttributeError(f"module 'omnialpha' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
