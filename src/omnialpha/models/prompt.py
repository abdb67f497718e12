"""Conditioning on words and pictures: the VLM reads the instruction and looks at the input pictures.

`PromptEncoder.embed` turns prompts and pictures into the hidden states that the transformer attends to. The steps are
those of Qwen-Image-Edit-Plus: announce each picture, put pictures and instruction into a chat template, run
Qwen2.5-VL, drop the template's tokens in front. Everything goes through tokenizer, torch and PIL: the stock
`Qwen2VLProcessor` needs torchvision, this does not. Nothing here turns gradients off, so training may go through it.

Shape suffixes: B prompts, T tokens, D hidden size, N pictures, H and W pixels.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from omnialpha.errors import InputError
from omnialpha.models.profile import Profile
from omnialpha.models.vlm_tokens import Tokens, expand, pad

Embeddings = tuple[Tensor, Tensor | None]
"""Hidden states (B, T, D) and the mask (B, T) of the real ones, None when no row is padded."""


def over_white(rgba_4HW: Tensor) -> Tensor:
    """RGBA (..., 4, H, W) over a white page, (..., 3, H, W): how the VLM sees a transparent picture."""
    rgb, alpha = rgba_4HW[..., :3, :, :], rgba_4HW[..., 3:, :, :]
    return rgb * alpha + (1.0 - alpha)


def grid_size(width: int, height: int, *, grid: int, max_area: int | None = None) -> tuple[int, int]:
    """Width and height rounded to multiples of ``grid``, shrunk first where they exceed ``max_area`` pixels.

    >>> grid_size(250, 130, grid=32), grid_size(4000, 2000, grid=32, max_area=1024 * 1024)
    ((256, 128), (1440, 736))
    """
    area = width * height if max_area is None else min(width * height, max_area)
    # Computed from area and ratio, as the reference does: sizes halfway between two multiples depend on its rounding.
    exact_width = math.sqrt(area * (width / height))
    exact_height = exact_width / (width / height)
    return max(grid, round(exact_width / grid) * grid), max(grid, round(exact_height / grid) * grid)


def repeat_embeddings(embeddings: Embeddings, batch: int, device: torch.device) -> Embeddings:
    """Embeddings of some prompts for a batch that holds several samples of each, next to each other.

    Args:
        embeddings: of P prompts.
        batch: number of entries, a multiple of P.
        device: where they are wanted.

    Raises:
        InputError: it is no multiple.
    """
    hidden_PTD, mask_PT = embeddings
    samples, rest = divmod(batch, len(hidden_PTD))
    if rest or (mask_PT is not None and len(mask_PT) != len(hidden_PTD)):
        masks = "" if mask_PT is None else f" and {len(mask_PT)} masks"
        raise InputError(f"expected embeddings for a batch of {batch}, received {len(hidden_PTD)}{masks}")
    hidden_BTD = hidden_PTD.to(device).repeat_interleave(samples, 0)
    return hidden_BTD, None if mask_PT is None else mask_PT.to(device).repeat_interleave(samples, 0)


class PromptEncoder:
    """Runs the VLM on instructions and pictures.

    Args:
        text_encoder: the VLM.
        tokenizer: its tokenizer.
        image_processor: tells patch sizes, pixel limits and normalisation of the vision tower.
        profile: templates and picture sizes of the checkpoint.
    """

    def __init__(
        self,
        text_encoder: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Qwen2VLImageProcessorPil,
        profile: Profile,
    ) -> None:
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.profile = profile
        prefix = profile.prompt_template.split("{}")[0]
        self.prefix_length = len(tokenizer(prefix)["input_ids"]) if prefix else 0

    def embed(
        self, prompts: Sequence[str], images: Sequence[Sequence[Tensor]], device: torch.device | None = None
    ) -> Embeddings:
        """Embed each prompt together with its pictures.

        Args:
            prompts: B instructions; "" for none.
            images: for each prompt its pictures, RGB (3, H, W) in [0, 1] (see :func:`over_white`); sizes may differ.
            device: where the VLM computes; default: where its weights are.

        Returns:
            Hidden states (B, T, D), padded on the right, and a boolean mask (B, T), or None when nothing is padded.

        Raises:
            InputError: prompts and picture lists differ in number, or a prompt contains the picture placeholder.
        """
        return self.embed_each([prompts], images, device)[0]

    def embed_each(
        self,
        prompt_lists: Sequence[Sequence[str]],
        images: Sequence[Sequence[Tensor]],
        device: torch.device | None = None,
    ) -> list[Embeddings]:
        """Embed several lists of prompts (say positive and negative ones) that share their pictures.

        Nothing is computed twice: the vision tower sees each picture once (the same tensor in several places is one
        picture), the language model reads each different prompt with its pictures once. Arguments and errors as for
        :meth:`embed`.
        """
        for prompts in prompt_lists:
            if len(prompts) != len(images):
                raise InputError(f"expected one list of pictures per prompt, received {len(images)} for {len(prompts)}")
        # A row is its words and its pictures, these by identity.
        keys = [
            [(words, tuple(map(id, seen))) for words, seen in zip(prompts, images, strict=True)]
            for prompts in prompt_lists
        ]
        rows = {key: (key[0], seen) for row_keys in keys for key, seen in zip(row_keys, images, strict=True)}
        place = {key: r for r, key in enumerate(rows)}
        hidden_RTD, mask_RT = self._read(list(rows.values()), device or self.text_encoder.device)
        results: list[Embeddings] = []
        for row_keys in keys:
            index = torch.tensor([place[key] for key in row_keys])
            mask_BT = mask_RT[index]
            mask_BT = mask_BT[:, mask_BT.any(0)]  # rows of another list may be longer
            hidden_BTD = hidden_RTD[index.to(hidden_RTD.device), : mask_BT.shape[1]]
            results.append((hidden_BTD, None if mask_BT.all() else mask_BT.to(hidden_BTD.device)))
        return results

    def _read(self, rows: Sequence[tuple[str, Sequence[Tensor]]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Hidden states (R, T, D) of R prompts with their pictures, without the template's front, and the mask (R, T).

        All goes through the VLM's own forward, never through its parts: offloading hooks sit there. What the parts
        receive and return is picked up on the way: asking the VLM for its hidden states would keep those of all layers.
        """
        shown = [picture for _, pictures in rows for picture in pictures]
        pixels = self._pixels(shown, device) if shown else None
        tokens = self._tokens(rows, pixels)
        vision = {} if pixels is None else {"pixel_values": pixels.patches, "image_grid_thw": pixels.shown_thw}
        outputs: list[Tensor] = []
        language = self.text_encoder.model.language_model
        hook = language.register_forward_hook(lambda module, args, output: outputs.append(output.last_hidden_state))
        try:
            with _each_seen_once(self.text_encoder.model.visual, pixels):
                # Rows are padded on the right and attention is causal: real tokens never see padding, so no mask.
                self.text_encoder(
                    input_ids=tokens.ids_BT.to(device),
                    position_ids=tokens.positions_3BT.to(device),
                    use_cache=False,
                    logits_to_keep=1,
                    **vision,
                )
        finally:
            hook.remove()
        return outputs[0][:, self.prefix_length :], tokens.mask_BT[:, self.prefix_length :]

    def _pixels(self, shown: Sequence[Tensor], device: torch.device) -> "_Pixels":
        """Pictures as the vision tower's patches; one that is shown several times is there once."""
        different = {id(picture): picture for picture in shown}
        place = {key: k for k, key in enumerate(different)}
        pictures = [self._vlm_picture(picture) for picture in different.values()]
        patches, grid_thw = [], []
        for (_, height, width), group in itertools.groupby(pictures, key=lambda picture: tuple(picture.shape)):
            batch = torch.stack(list(group)).to(device)
            patches.append(self._patchify(batch))
            patch = self.image_processor.patch_size
            grid_thw += [[1, height // patch, width // patch]] * len(batch)
        places = [place[id(picture)] for picture in shown]
        return _Pixels(torch.cat(patches), torch.tensor(grid_thw, device=device), places)

    def _vlm_picture(self, image_3HW: Tensor) -> Tensor:
        """A picture at the size that the vision tower takes, 8 bit per channel."""
        bytes_3HW = (image_3HW.detach() * 255.0).round().clamp(0, 255).to(torch.uint8)
        height, width = image_3HW.shape[-2:]
        width, height = grid_size(width, height, grid=self.profile.grid, max_area=self.profile.vlm_area)
        if self.profile.transpose_vlm_image:
            width, height = height, width
        bytes_3HW = _resize(bytes_3HW, width, height, Image.Resampling.LANCZOS)
        processor = self.image_processor
        height, width = smart_resize(
            height,
            width,
            factor=processor.patch_size * processor.merge_size,
            min_pixels=processor.size["shortest_edge"],
            max_pixels=processor.size["longest_edge"],
        )
        return _resize(bytes_3HW, width, height, Image.Resampling(processor.resample))

    def _patchify(self, pictures_NCHW: Tensor) -> Tensor:
        """8-bit pictures of one size to normalised patches (tokens, values), ordered as the vision tower expects."""
        processor = self.image_processor
        mean, std = (
            torch.tensor(values, device=pictures_NCHW.device).view(-1, 1, 1)
            for values in (processor.image_mean, processor.image_std)
        )
        x = (pictures_NCHW.float() * processor.rescale_factor - mean) / std
        patch, merge = processor.patch_size, processor.merge_size
        N, C, H, W = x.shape
        rows, columns = H // (patch * merge), W // (patch * merge)
        # Patches that are merged later come one after the other; a still picture is a video of equal frames.
        x = x.view(N, C, rows, merge, patch, columns, merge, patch).permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        x = x.expand(*x.shape[:6], processor.temporal_patch_size, patch, patch)
        return x.reshape(N * rows * columns * merge**2, -1)

    def _tokens(self, rows: Sequence[tuple[str, Sequence[Tensor]]], pixels: "_Pixels | None") -> Tokens:
        """Token ids with one placeholder per vision token, and their (time, row, column) positions."""
        texts = []
        for prompt, pictures in rows:
            announced = "".join(self.profile.picture_template.replace("{}", str(k + 1)) for k in range(len(pictures)))
            texts.append(self.profile.prompt_template.replace("{}", announced + prompt))
        merge = self.image_processor.merge_size
        sizes = iter([] if pixels is None else [(h // merge, w // merge) for _, h, w in pixels.shown_thw.tolist()])
        placeholder = self.text_encoder.config.image_token_id
        expanded = []
        for text_ids, (prompt, pictures) in zip(self.tokenizer(texts)["input_ids"], rows, strict=True):
            if text_ids.count(placeholder) != len(pictures):
                raise InputError(f"the prompt must not contain the picture placeholder token, received {prompt!r}")
            expanded.append(expand(text_ids, placeholder, list(itertools.islice(sizes, len(pictures)))))
        return pad(expanded, pad_id=self.tokenizer.pad_token_id or 0)


@dataclass(frozen=True)
class _Pixels:
    """What the vision tower reads.

    Attributes:
        patches: of all different pictures, (tokens, values).
        grid_thw: (1, rows, columns) of each.
        places: which of them is shown at each place, in the order of the prompts.
    """

    patches: Tensor
    grid_thw: Tensor
    places: list[int]

    @property
    def shown_thw(self) -> Tensor:
        """(1, rows, columns) of the picture at each place."""
        return self.grid_thw[self.places]


@contextmanager
def _each_seen_once(visual: torch.nn.Module, pixels: _Pixels | None) -> Iterator[None]:
    """Let the vision tower read each different picture once, and repeat what it returns at every place of the picture.

    The VLM itself hands the sizes of all shown pictures to the tower and expects as many back.
    """
    if pixels is None or pixels.places == list(range(len(pixels.grid_thw))):
        yield
        return

    def show_once(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"grid_thw": pixels.grid_thw}

    def repeat(module: Any, args: Any, output: BaseModelOutputWithPooling) -> BaseModelOutputWithPooling:
        counts = pixels.grid_thw.prod(-1) // module.spatial_merge_size**2
        features = output.pooler_output.split(counts.tolist())
        output.pooler_output = torch.cat([features[k] for k in pixels.places])
        return output

    # First and last, so that whoever looks on sees what the tower sees.
    hooks = (
        visual.register_forward_pre_hook(show_once, prepend=True, with_kwargs=True),
        visual.register_forward_hook(repeat),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _resize(bytes_3HW: Tensor, width: int, height: int, resample: Image.Resampling) -> Tensor:
    """Resize an 8-bit picture with PIL, whose filters the weights were trained with (torch's differ)."""
    if tuple(bytes_3HW.shape[-2:]) == (height, width):
        return bytes_3HW
    picture = Image.fromarray(bytes_3HW.permute(1, 2, 0).cpu().numpy())
    if picture.height > height and picture.width < width:
        # PIL rounds to 8 bit between its passes. From 13 on it shrinks before it enlarges, as the released pictures
        # were made; older ones always begin with the width. With the height done here, both give the same bytes.
        picture = picture.resize((picture.width, height), resample)
    resized = np.array(picture.resize((width, height), resample))
    return torch.from_numpy(resized).permute(2, 0, 1)
