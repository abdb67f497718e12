"""What the VLM's language model reads: token ids with one placeholder per vision token, and their positions.

Shape suffixes: B rows, T tokens.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """What the language model reads: ids (B, T), positions (3, B, T), mask of the real tokens (B, T)."""

    ids_BT: Tensor
    positions_3BT: Tensor
    mask_BT: Tensor


def expand(ids: list[int], placeholder: int, sizes: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Repeat each picture placeholder once per vision token; ids (T,) and positions (3, T).

    Text advances all three position axes together. A picture of r x c vision tokens takes rows and columns from where
    the text stopped, and the text goes on max(r, c) later (Qwen2.5-VL's multimodal RoPE).

    Args:
        ids: tokens of a text with one placeholder per picture.
        placeholder: its id.
        sizes: vision tokens (rows, columns) of each picture.

    >>> ids, positions = expand([7, 0, 8], placeholder=0, sizes=[(1, 2)])
    >>> ids.tolist(), positions.tolist()
    ([7, 0, 0, 8], [[0, 1, 1, 3], [0, 1, 1, 3], [0, 1, 2, 3]])
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


def pad(rows: list[tuple[np.ndarray, np.ndarray]], pad_id: int) -> Tokens:
    """Stack rows of different lengths, padding on the right.

    Args:
        rows: ids (T,) and positions (3, T) of each.
        pad_id: token of the padding.
    """
    B, T = len(rows), max(len(ids) for ids, _ in rows)
    ids_BT, positions_3BT, mask_BT = np.full((B, T), pad_id), np.zeros((3, B, T), int), np.zeros((B, T), bool)
    for b, (ids, positions) in enumerate(rows):
        ids_BT[b, : len(ids)], positions_3BT[:, b, : len(ids)], mask_BT[b, : len(ids)] = ids, positions, True
    return Tokens(torch.from_numpy(ids_BT), torch.from_numpy(positions_3BT), torch.from_numpy(mask_BT))
