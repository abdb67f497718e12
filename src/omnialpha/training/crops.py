"""What the VAE is trained on: crops of cut-outs, composites, backgrounds and masks, drawn from scenes.

Shape suffixes: B batch, C latent channels, H height, W width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from omnialpha.data.manifest import Sample, read_scene
from omnialpha.data.scenes import Corpus, Scene, draw_scene
from omnialpha.training.vae_config import COMPRESSION, VaeConfig

Data = Corpus | Sequence[Sample]
"""Where scenes come from: a prepared corpus, composed anew at every draw, or the samples of a manifest."""

ALL_KINDS = 0.25  # share of scenes that also give a mask and their background: both are easy
RECOLOURED = 0.5
HELD_OUT_SEED = 20_000


class Batch(NamedTuple):
    """Everything random in a step: pictures, noise of the latents, and a background colour for each picture."""

    x_B4HW: Tensor
    noise_BCHW: Tensor
    colour_B3: Tensor

    def parts(self, process: PartialState, micro_batch: int) -> list["Batch"]:
        """This process's share, in parts of at most `micro_batch` pictures, on its device."""
        share = len(self.x_B4HW) // process.num_processes
        mine = range(process.process_index * share, (process.process_index + 1) * share, micro_batch)
        return [
            Batch(*(values[start : min(start + micro_batch, mine.stop)].to(process.device) for values in self))
            for start in mine
        ]


def draw_batch(data: Data, config: VaeConfig, step: int, *, z_dim: int) -> Batch:
    """The whole batch of one step, fixed by seed and step: however many processes share it, it is the same."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    side = config.crop // COMPRESSION
    noise_BCHW = torch.randn(config.batch_size, z_dim, side, side, generator=generator)
    colour_B3 = torch.rand(config.batch_size, 3, generator=generator)
    return Batch(draw_crops(data, config, step), noise_BCHW, colour_B3)


def draw_crops(data: Data, config: VaeConfig, step: int) -> Tensor:
    """The batch of one step, fixed by seed and step: (B, 4, crop, crop), straight RGBA in [-1, 1]."""
    rng = np.random.default_rng([config.seed, step])
    crops: list[np.ndarray] = []
    while len(crops) < config.batch_size:
        size = int(config.crop * rng.choice(config.zooms))
        for picture in pictures_of(_scene(data, rng, size), rng):
            top, left = rng.integers(0, size - config.crop + 1, 2)
            crop = picture[top : top + config.crop, left : left + config.crop]
            crops.append(recolour(crop, rng) if config.recolour else crop)
    return _to_tensor(crops[: config.batch_size])


def pictures_of(scene: Scene, rng: np.random.Generator) -> list[np.ndarray]:
    """What to crop from a scene: a cut-out twice, the composite, now and then the mask and the background."""
    foreground = scene.foregrounds[rng.integers(len(scene.foregrounds))]
    pictures = [foreground, scene.composite, foreground]
    if rng.random() < ALL_KINDS:
        mask = foreground[..., [3, 3, 3, 3]].copy()
        mask[..., 3] = 1
        pictures.append(mask)
        if scene.background is not None:
            pictures.append(scene.background)
    return pictures


def recolour(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Permute the colour channels of a crop and, every other time, invert some of them.

    The channels of photographs are so alike that a network first learns grey pictures and stays there for long:
    inverting channels by chance makes colour as strong a signal as brightness.
    """
    crop = crop[..., [*rng.permutation(3), 3]]
    if rng.random() < RECOLOURED:
        inverted = np.where(rng.random(3) < 0.5, 1 - crop[..., :3], crop[..., :3])
        crop[..., :3] = inverted * (crop[..., 3:] > 0)
    return crop


def held_out_pictures(data: Data, config: VaeConfig) -> Tensor:
    """The fixed pictures of every validation: cut-outs, (B, 4, crop, crop), straight RGBA in [-1, 1].

    Of a manifest, the first `config.held_out` samples, or all when there are fewer.
    """
    if isinstance(data, Corpus):
        rngs = [np.random.default_rng([HELD_OUT_SEED, index]) for index in range(config.held_out)]
        scenes = [draw_scene(data, rng, config.crop) for rng in rngs]
    else:
        scenes = [read_scene(sample, (config.crop, config.crop)) for sample in data[: config.held_out]]
    return _to_tensor([scene.foregrounds[0] for scene in scenes])


def _scene(data: Data, rng: np.random.Generator, size: int) -> Scene:
    if isinstance(data, Corpus):
        return draw_scene(data, rng, size)
    return read_scene(data[int(rng.integers(len(data)))], (size, size))


def _to_tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    """Straight RGBA (H, W, 4) in [0, 1] to one batch in the VAE's range."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).mul(2).sub(1)
