"""Short texts that tell whether two things are the same: weights, settings, pictures."""

import hashlib
import json

import numpy as np
import torch
from torch import nn

from omnialpha.pipeline import OmniAlphaPipeline


def vae_fingerprint(pipeline: OmniAlphaPipeline) -> str:
    """All that the latents of a picture depend on: weights and statistics of the VAE."""
    config = pipeline.vae.config
    return digest(_weights_hash(pipeline.vae), str((list(config.latents_mean), list(config.latents_std))))


def vlm_fingerprint(pipeline: OmniAlphaPipeline) -> str:
    """All that the hidden states of a prompt depend on: weights, vocabulary, templates, picture sizes."""
    profile, processor = pipeline.profile, pipeline.image_processor
    settings = (
        profile.prompt_template,
        profile.picture_template,
        profile.transpose_vlm_image,
        profile.vlm_area,
        profile.grid,
        sorted(processor.to_dict().items(), key=str),
        sorted(pipeline.tokenizer.get_vocab().items()),
    )
    return digest(_weights_hash(pipeline.text_encoder), str(settings))


def _weights_hash(module: nn.Module) -> str:
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


def hash_picture(picture: np.ndarray) -> str:
    """A hash of a picture's size and pixels."""
    return digest(str(picture.shape), hashlib.sha256(np.ascontiguousarray(picture).data).hexdigest())


def digest(*parts: str) -> str:
    """A hash of some texts; where one ends and the next begins counts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
