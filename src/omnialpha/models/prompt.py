"""Conditioning on words and pictures: the VLM reads the instruction and looks at the input pictures.

`PromptEncoder.embed` turns prompts and pictures into the hidden states that the transformer attends to. The steps are
those of Qwen-Image-Edit-Plus: announce each picture, put pictures and instruction into a chat template, run
Qwen2.5-VL, drop the template's tokens in front. Everything goes through tokenizer, torch and PIL: the stock
`Qwen2VLProcessor` needs torchvision, this does not. Nothing here turns gradients off, so training may go through it.

Shape suffixes: B prompts, T tokens, D hidden size, N pictures, H and W pixels.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from omnialpha.errors import InputError
from omnialpha.models.profile import Profile

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

        The vision tower runs once, for the first list. Arguments and errors as for :meth:`embed`.
        """
        device = device or self.text_encoder.device
        pixels = self._pixels(images, device) if any(images) else None
        results: list[Embeddings] = []
        seen: list[object] = []  # what the vision tower returned
        # All calls go through the VLM's own forward, never through its parts: offloading hooks sit there.
        hook = self.text_encoder.model.visual.register_forward_hook(lambda module, args, output: seen.append(output))
        try:
            for prompts in prompt_lists:
                tokens = self._tokens(prompts, images, pixels)
                vision: dict[str, object] = {}
                if pixels is not None:
                    vision = (
                        {"mm_encoder_outputs": {"image": seen[0]}}
                        if seen
                        else {"pixel_values": pixels.patches, "image_grid_thw": pixels.grid_thw}
                    )
                # Rows are padded on the right and attention is causal: real tokens never see padding, so no mask.
                output = self.text_encoder(
                    input_ids=tokens.ids_BT.to(device),
                    position_ids=tokens.positions_3BT.to(device),
                    output_hidden_states=True,
                    use_cache=False,
                    logits_to_keep=1,
                    **vision,
                )
                hidden_BTD = output.hidden_states[-1][:, self.prefix_length :]
                mask_BT = tokens.mask_BT[:, self.prefix_length :]
                results.append((hidden_BTD, None if mask_BT.all() else mask_BT.to(device)))
        finally:
            hook.remove()
        return results

    def _pixels(self, images: Sequence[Sequence[Tensor]], device: torch.device) -> "_Pixels":
        """All pictures, in order, as the vision tower's patches."""
        pictures = [self._vlm_picture(image) for image in itertools.chain.from_iterable(images)]
        patches, grid_thw = [], []
        for (_, height, width), group in itertools.groupby(pictures, key=lambda picture: tuple(picture.shape)):
            batch = torch.stack(list(group)).to(device)
            patches.append(self._patchify(batch))
            patch = self.image_processor.patch_size
            grid_thw += [[1, height // patch, width // patch]] * len(batch)
        return _Pixels(torch.cat(patches), torch.tensor(grid_thw, device=device))

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

    def _tokens(
        self, prompts: Sequence[str], images: Sequence[Sequence[Tensor]], pixels: "_Pixels | None"
    ) -> "_Tokens":
        """Token ids with one placeholder per vision token, and their (time, row, column) positions."""
        if len(prompts) != len(images):
            raise InputError(f"expected one list of pictures per prompt, received {len(images)} for {len(prompts)}")
        texts = []
        for prompt, pictures in zip(prompts, images, strict=True):
            announced = "".join(self.profile.picture_template.replace("{}", str(k + 1)) for k in range(len(pictures)))
            texts.append(self.profile.prompt_template.replace("{}", announced + prompt))
        merge = self.image_processor.merge_size
        sizes = iter([] if pixels is None else [(h // merge, w // merge) for _, h, w in pixels.grid_thw.tolist()])
        placeholder = self.text_encoder.config.image_token_id
        rows = []
        for text_ids, pictures, prompt in zip(self.tokenizer(texts)["input_ids"], images, prompts, strict=True):
            if text_ids.count(placeholder) != len(pictures):
                raise InputError(f"the prompt must not contain the picture placeholder token, received {prompt!r}")
            rows.append(_expand(text_ids, placeholder, list(itertools.islice(sizes, len(pictures)))))
        return _pad(rows, pad_id=self.tokenizer.pad_token_id or 0)


@dataclass(frozen=True)
class _Pixels:
    """What the vision tower reads: patches of all pictures (tokens, values) and each picture's (1, rows, columns)."""

    patches: Tensor
    grid_thw: Tensor


@dataclass(frozen=True)
class _Tokens:
    """What the language model reads: ids (B, T), positions (3, B, T), mask of the real tokens (B, T)."""

    ids_BT: Tensor
    positions_3BT: Tensor
    mask_BT: Tensor


def _expand(ids: list[int], placeholder: int, sizes: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Repeat each picture placeholder once per vision token; ids (T,) and positions (3, T).

    Text advances all three position axes together. A picture of r x c vision tokens takes rows and columns from where
    the text stopped, and the text goes on max(r, c) later (Qwen2.5-VL's multimodal RoPE).
    """
    pieces, positions = [], []
    next_position = 0
    remaining = iter(sizes)
    for is_picture, group in itertools.groupby(ids, key=lambda token: token == placeholder):
        run = list(group)
        if not is_picture:
            pieces.append(np.array(run))
            positions.append(np.broadcast_to(next_position + np.arange(len(run)), (3, len(run))))
            next_position += len(run)
            continue
        for _ in run:
            rows, columns = next(remaining)
            pieces.append(np.full(rows * columns, placeholder))
            row, column = np.indices((rows, columns)).reshape(2, -1)
            positions.append(next_position + np.stack([np.zeros_like(row), row, column]))
            next_position += max(rows, columns)
    return np.concatenate(pieces), np.concatenate(positions, axis=1)


def _pad(rows: list[tuple[np.ndarray, np.ndarray]], pad_id: int) -> _Tokens:
    """Stack rows of different lengths, padding on the right."""
    B, T = len(rows), max(len(ids) for ids, _ in rows)
    ids_BT, positions_3BT, mask_BT = np.full((B, T), pad_id), np.zeros((3, B, T), int), np.zeros((B, T), bool)
    for b, (ids, positions) in enumerate(rows):
        ids_BT[b, : len(ids)], positions_3BT[:, b, : len(ids)], mask_BT[b, : len(ids)] = ids, positions, True
    return _Tokens(torch.from_numpy(ids_BT), torch.from_numpy(positions_3BT), torch.from_numpy(mask_BT))


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
