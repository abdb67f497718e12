"""The usual feature extractors, with weights from a path: Inception of clean-fid for FID, CLIP for CLIP-FID and -Score.

Each factory returns a plain callable from a picture, or a text, to a feature vector, so anything of that shape can take
its place. Weights are never downloaded: an error names the file that is missing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from omnialpha.errors import CheckpointError
from omnialpha.evaluation._inputs import picture

if TYPE_CHECKING:
    import torch

Picture = np.ndarray | Image.Image
Extractor = Callable[[Picture], np.ndarray]

PROMPT_PREFIX = "A photo depicts "  # of CLIPScore's authors
_INCEPTION_SIDE = 299
_CLIP_SIDE = 224
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def inception(path: str | Path, device: str = "cpu") -> Extractor:
    """FID's features: Inception of 2015-12-05, prepared as in clean-fid.

    Args:
        path: The TorchScript file that clean-fid and StyleGAN use, "inception-2015-12-05.pt".
        device: Where to run it.

    Returns:
        RGB picture (Pillow, or ``(H, W, 3)`` floats in [0, 1] or ``uint8``) to ``(2048,)`` ``float32``.

    Raises:
        CheckpointError: The file is missing or is no such network.
    """
    import torch

    file = weights_file(path, "FID needs inception-2015-12-05.pt, the TorchScript file of clean-fid")
    try:
        layers = torch.jit.load(str(file), map_location=device).eval().layers
    except (RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{file}: is not the TorchScript Inception of clean-fid; download it again") from error

    @torch.no_grad()
    def extract(image: Picture) -> np.ndarray:
        pixels = torch.from_numpy(inception_pixels(image))[None].to(device)
        return _vector(layers.forward((pixels - 128) / 128))

    return extract


def inception_pixels(image: Picture) -> np.ndarray:
    """Resize as clean-fid does: each channel in single precision, antialiased bicubic, never rounded to bytes.

    Args:
        image: RGB picture.

    Returns:
        ``(3, 299, 299)`` ``float32`` in [0, 255].

    Raises:
        InputError: The input is no RGB picture.
    """
    array = picture(image, "picture", 3)
    array = array.astype(np.float32) if array.dtype == np.uint8 else array.astype(np.float32) * 255
    size = (_INCEPTION_SIDE, _INCEPTION_SIDE)
    channels = [
        np.asarray(Image.fromarray(np.ascontiguousarray(array[..., c])).resize(size, Image.Resampling.BICUBIC))
        for c in range(3)
    ]
    return np.stack(channels).clip(0, 255)


def clip(path: str | Path, device: str = "cpu") -> Extractor:
    """CLIP's image embedding, not normalised: the features of CLIP-FID and one half of CLIP-Score.

    Args:
        path: Folder of a CLIP model as transformers saves it; the metrics are defined on openai/clip-vit-base-patch32.
        device: Where to run it.

    Returns:
        RGB picture to ``(D,)`` ``float32``.

    Raises:
        CheckpointError: The folder is missing or holds no CLIP model.
    """
    import torch

    model = _clip_model(path, device)
    side = model.config.vision_config.image_size

    @torch.no_grad()
    def extract(image: Picture) -> np.ndarray:
        pixels = torch.from_numpy(clip_pixels(image, side))[None].to(device)
        return _vector(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output))

    return extract


def clip_text(path: str | Path, device: str = "cpu") -> Callable[[str], np.ndarray]:
    """CLIP's text embedding of "A photo depicts " and a caption: the other half of CLIP-Score.

    Args:
        path: The same folder as for `clip`, with its tokenizer.
        device: Where to run it.

    Returns:
        Caption to ``(D,)`` ``float32``; captions beyond CLIP's 77 tokens are cut, as everywhere.

    Raises:
        CheckpointError: The folder is missing or holds no CLIP model.
    """
    import torch
    from transformers import CLIPTokenizer

    model = _clip_model(path, device)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: holds no CLIP tokenizer; save the whole model folder there") from error

    @torch.no_grad()
    def extract(caption: str) -> np.ndarray:
        length = model.config.text_config.max_position_embeddings
        tokens = tokenizer(PROMPT_PREFIX + caption, truncation=True, max_length=length, return_tensors="pt")
        return _vector(model.text_projection(model.text_model(**tokens.to(device)).pooler_output))

    return extract


def clip_pixels(image: Picture, side: int = _CLIP_SIDE) -> np.ndarray:
    """Prepare a picture for CLIP: shorter side to 224, bicubic, centre crop, normalised.

    Args:
        image: RGB picture; floats are rounded to bytes, as CLIP's own preparation works on 8-bit images.
        side: Side of the crop in pixels.

    Returns:
        ``(3, side, side)`` ``float32``.

    Raises:
        InputError: The input is no RGB picture.
    """
    array = picture(image, "picture", 3)
    pil = Image.fromarray(array if array.dtype == np.uint8 else np.rint(array * 255).astype(np.uint8))
    shorter = min(pil.size)
    width, height = (side if length == shorter else int(side * length / shorter) for length in pil.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    pil = pil.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    pixels = (np.asarray(pil, np.float32) / 255 - np.array(_CLIP_MEAN, np.float32)) / np.array(_CLIP_STD, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def as_module(extractor: Extractor) -> "torch.nn.Module":
    """Wrap an extractor for libraries that want a module, as torchmetrics' FrechetInceptionDistance(feature=…) does.

    Args:
        extractor: Any of this module, or any other callable of its kind.

    Returns:
        Module from RGB pictures, ``(B, 3, H, W)`` ``uint8`` or floats in [0, 1], to ``(B, D)`` on the same device.
    """
    import torch

    class Features(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pictures = images.movedim(1, -1).cpu().numpy()
            return torch.from_numpy(np.stack([extractor(each) for each in pictures])).to(images.device)

    return Features()


def weights_file(path: str | Path, needed: str) -> Path:
    """A file of weights that is there.

    Args:
        path: Where it should be.
        needed: Which file it is, for the error.

    Returns:
        The path.

    Raises:
        CheckpointError: There is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; {needed}; download it once and pass its path")
    return file


def _clip_model(path: str | Path, device: str) -> Any:
    from transformers import CLIPModel

    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder}: holds no CLIP model; run: hf download openai/clip-vit-base-patch32 --local-dir {folder}"
        )
    try:
        return CLIPModel.from_pretrained(str(folder), local_files_only=True).to(device).eval()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: is not a CLIP model as transformers saves it; download it again") from error


def _vector(features: "torch.Tensor") -> np.ndarray:
    """Features of one sample, ``(D,)`` ``float32``."""
    vector: np.ndarray = features.reshape(-1).float().cpu().numpy()
    return vector
