"""MSRoPE-BiL: rotary positions with a bi-directional layer axis (paper §3.3).

Every token gets a position on three axes, (z, y, x). z is the layer: inputs at 0 … n-1, targets at negative indices,
text behind the last input. Only differences of positions reach the attention scores, so a global shift of z changes
nothing, and the stock positions of Qwen-Image-Edit (targets first, then inputs, counted from 0) are these shifted by m.

`layer_indices` gives z for a sequence [targets | inputs], `token_positions` all three axes. `MSRoPEBiL` takes the
place of `transformer.pos_embed` and reads z from the image shapes that callers pass: `[[(1, h, w, z), …]] * batch`.

Shape suffixes: S image tokens, T text tokens, A axes (3), D half of the head dimension.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from omnialpha.errors import InputError, nearest

LayerOrder = Literal["paper", "released"]
"""Which target lies next to the inputs: the first one (paper: target k at z = -k) or the last one (released)."""

LayerShape = tuple[int, int, int, int]
"""(frames, rows, columns, z) of one image: frames is 1, rows and columns count 2x2 latent patches."""


def layer_indices(num_targets: int, num_inputs: int, order: LayerOrder = "paper") -> list[int]:
    """Layer index z of every image in the model's sequence [target 1 … target m | input 1 … input n].

    Args:
        num_targets: m, at least 1.
        num_inputs: n, may be 0.
        order: "paper" puts target k at -k; "released" puts it at k - 1 - m. Inputs are at k - 1 in both.

    Raises:
        InputError: a count is out of range, or the order is unknown.

    >>> layer_indices(2, 1, order="paper"), layer_indices(2, 1, order="released")
    ([-1, -2, 0], [-2, -1, 0])
    """
    if num_targets < 1 or num_inputs < 0:
        raise InputError(f"expected at least 1 target and 0 inputs, received {num_targets} and {num_inputs}")
    if order not in get_args(LayerOrder):
        known = get_args(LayerOrder)
        raise InputError(f'unknown layer order "{order}", expected one of {known}{nearest(str(order), known)}')
    targets = list(range(-num_targets, 0))
    if order == "paper":
        targets.reverse()
    return targets + list(range(num_inputs))


def text_start(shapes: list[LayerShape]) -> tuple[int, int]:
    """Where the text begins: (z, y = x) of its first token; it goes on diagonally, one step per token on each axis.

    The stock model starts the text at half of the largest image side, on all three axes. That start is kept wherever
    it lies behind all layers (every real resolution); for small images it is moved behind the last input.

    >>> text_start([(1, 64, 64, -1), (1, 64, 64, 0)])
    (31, 32)
    >>> text_start([(1, 2, 2, -2), (1, 2, 2, -1), (1, 2, 2, 0)])
    (1, 3)
    """
    num_targets = sum(z < 0 for *_, z in shapes)
    start = max(len(shapes), *(max(h // 2, w // 2) for _, h, w, _ in shapes))
    return start - num_targets, start


def token_positions(
    shapes: list[LayerShape], num_text_tokens: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """(z, y, x) of every image token (S, 3) and every text token (T, 3), as integers.

    Rows and columns are centred on each image (the stock `scale_rope`), so images of different sizes share a centre.
    """
    images_SA = torch.cat([_image_positions(rows, columns, z, device) for _, rows, columns, z in shapes])
    z_text, yx_text = text_start(shapes)
    steps_T = torch.arange(num_text_tokens, device=device)
    return images_SA, torch.stack([steps_T + z_text, steps_T + yx_text, steps_T + yx_text], dim=-1)


class MSRoPEBiL(nn.Module):
    """Rotary factors for images on explicit layers and for the text, called like diffusers' `QwenEmbedRope`.

    Args:
        axes_dim: how many channels of a head each of (z, y, x) rotates; even numbers, `config.axes_dims_rope`.
        theta: base of the frequencies.
    """

    def __init__(self, axes_dim: list[int], theta: float = 10_000.0) -> None:
        super().__init__()
        self.axes_dim = list(axes_dim)
        self.theta = theta

    def forward(
        self,
        img_shapes: list[list[LayerShape]],
        device: torch.device | None = None,
        max_txt_seq_len: int | Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rotary factors of the image tokens (S, D) and of the text tokens (T, D), as complex64.

        Args:
            img_shapes: per batch entry, the (1, rows, columns, z) of each image in sequence order; all entries equal.
            device: where the factors are needed.
            max_txt_seq_len: T.

        Raises:
            InputError: batch entries differ (one set of positions serves the whole batch), or z is missing.
        """
        if max_txt_seq_len is None:
            raise InputError("max_txt_seq_len is missing; pass the number of text tokens")
        shapes = img_shapes[0]
        for other in img_shapes:
            if other != shapes:
                raise InputError(
                    f"a batch must share its layer structure and image sizes, received {shapes} and {other}; "
                    "run different ones separately"
                )
        if any(len(shape) != 4 or shape[0] != 1 for shape in shapes):
            raise InputError(f"expected image shapes (1, rows, columns, z), received {shapes}")

        images_SA, text_TA = token_positions(shapes, int(max_txt_seq_len), device)
        return self.rotations(images_SA), self.rotations(text_TA)

    def rotations(self, positions_SA: Tensor) -> Tensor:
        """exp(i · position · frequency) for the channels of all axes: positions (S, 3) to complex64 (S, D)."""
        angles = []
        for positions_S, dim in zip(positions_SA.unbind(-1), self.axes_dim, strict=True):
            # Written as the stock model writes it: float32 frequencies differ in the last bit otherwise.
            exponents = torch.arange(0, dim, 2, device=positions_S.device).to(torch.float32).div(dim)
            angles.append(torch.outer(positions_S, 1.0 / torch.pow(self.theta, exponents)))
        angles_SD = torch.cat(angles, dim=-1)
        return torch.polar(torch.ones_like(angles_SD), angles_SD)


def _image_positions(rows: int, columns: int, z: int, device: torch.device | None) -> Tensor:
    """(z, y, x) of every token of one image, (rows · columns, 3), row by row."""
    y = torch.arange(rows, device=device) - (rows - rows // 2)
    x = torch.arange(columns, device=device) - (columns - columns // 2)
    y_grid, x_grid = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([torch.full_like(y_grid, z), y_grid, x_grid], dim=-1).reshape(-1, 3)
