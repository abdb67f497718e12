"""How beautiful a cut-out is, by LAION-AES: a small head on CLIP ViT-L/14, trained on people's ratings from 1 to 10.

The predictor is that of LAION's improved-aesthetic-predictor, `sac+logos+ava1-l14-linearMSE.pth`: CLIP's image
embedding, scaled to length 1, goes through five linear layers without anything between them but dropout. It has never
seen transparency: cut-outs are shown to it in the middle of a grey square (`quality.isolated`), so scores compare
cut-outs with each other and not with photographs.
"""

from functools import cached_property
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError

from omnialpha import hub
from omnialpha.alphalayers.weights import identity
from omnialpha.errors import CheckpointError, InputError
from omnialpha.evaluation import extractors

if TYPE_CHECKING:
    import torch

CLIP = "openai/clip-vit-large-patch14"
HEAD = "sac+logos+ava1-l14-linearMSE.pth"

_CLIP_FILES = ("config.json", "model.safetensors")
_LAYERS = (0, 2, 4, 6, 7)  # the others of the head's Sequential are dropout
_NEEDED = (
    f"LAION-AES needs CLIP ViT-L/14 (hf download {CLIP} --local-dir CLIP) and the head {HEAD} of "
    "github.com/christophschuhmann/improved-aesthetic-predictor; download both and name them, or do without scores"
)


class LaionAesthetic:
    """The predictor: an opaque "RGB" picture to its score, about 1 to 10. CLIP is loaded with the first picture.

    Args:
        name: The line of text that made it.
        target: "CLIP#HEAD": the folder of CLIP ViT-L/14 as transformers saves it, or its hub id, which is downloaded
            once; and the head's file, `.pth` or `.safetensors`.
        device: Where to run CLIP.

    Attributes:
        name: As for other backends.
        settings: What the scores depend on, in JSON types.
        workers: How many calls at once are worth while.

    Raises:
        CheckpointError: One of the two is missing, or is something else; the message names both.
    """

    def __init__(self, name: str, target: str, *, device: str = "cpu") -> None:
        clip, _, head = target.rpartition("#")
        file = Path(head).expanduser()
        if not clip:
            raise CheckpointError(f'"{name}": names one file where two are needed, CLIP#HEAD; {_NEEDED}')
        if not file.is_file():
            raise CheckpointError(f"{file}: no such file; {_NEEDED}")
        try:
            self._folder = hub.folder_or_fetch(clip, _CLIP_FILES)
        except (CheckpointError, InputError) as error:
            raise CheckpointError(f"{error}; {_NEEDED}") from error
        if not (self._folder / "config.json").is_file():
            raise CheckpointError(f"{self._folder}: holds no CLIP model; {_NEEDED}")
        self._weights, self._bias = _collapsed(_state(file), file)
        self._device = device
        self.name, self.workers = name, 1
        self.settings: dict[str, Any] = {
            "kind": "laion-aes",
            "clip": identity(self._folder),
            "head": sha256(file.read_bytes()).hexdigest()[:16],
        }

    def __call__(self, picture: Image.Image) -> float:
        """Score a picture.

        Raises:
            CheckpointError: The folder holds another CLIP than the head was made for.
        """
        embedding = self._embed(picture).astype(np.float64)
        if embedding.shape != self._weights.shape:
            raise CheckpointError(
                f"{self._folder}: has {embedding.size} dimensions, the head expects {self._weights.size}; {_NEEDED}"
            )
        return float(embedding @ self._weights / np.linalg.norm(embedding) + self._bias)

    @cached_property
    def _embed(self) -> extractors.Extractor:
        return extractors.clip(self._folder, self._device)


def _state(file: Path) -> "dict[str, torch.Tensor]":
    """Tensors of a file by name."""
    import torch
    from safetensors.torch import load_file

    try:
        state: Any = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, UnpicklingError, OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{file}: is not a file of weights; {_NEEDED}") from error
    return dict(state)


def _collapsed(state: "dict[str, torch.Tensor]", file: Path) -> tuple[np.ndarray, float]:
    """The head's layers as one: with nothing between them, x → W₅(W₄(…(W₁x + b₁)…) + b₄) + b₅ is one affine map."""
    try:
        layers = [(state[f"layers.{i}.weight"].double(), state[f"layers.{i}.bias"].double()) for i in _LAYERS]
        weights, bias = layers[0]
        for weight, shift in layers[1:]:
            weights, bias = weight @ weights, weight @ bias + shift
        return weights.reshape(-1).numpy(), float(bias.reshape(()))
    except (KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{file}: is not the LAION-AES head with layers.0 to layers.7; {_NEEDED}") from error
