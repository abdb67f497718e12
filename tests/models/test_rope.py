"""MSRoPE-BiL against the stock positions, and the properties that the paper asks of the layer axis."""

import pytest
import torch
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope, apply_rotary_emb_qwen
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from omnialpha.errors import InputError
from omnialpha.models.rope import LayerOrder, LayerShape, MSRoPEBiL, layer_indices, text_start, token_positions
from omnialpha.models.transformer import layer_shapes, velocity, with_layer_positions

AXES = [4, 6, 6]


def shapes_of(grid: tuple[int, int], m: int, n: int, order: LayerOrder = "paper") -> list[LayerShape]:
    return layer_shapes(grid, m, [grid] * n, order)


def scores(images: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Attention scores of fixed random queries and keys at these rotations."""
    rotations = torch.cat([text, images])
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, len(rotations), 1, sum(AXES), generator=generator)
    q, k = (apply_rotary_emb_qwen(x, rotations, use_real=False)[0, :, 0] for x in (q, k))
    return q @ k.T


def test_layer_indices() -> None:
    assert layer_indices(3, 2, order="paper") == [-1, -2, -3, 0, 1]
    assert layer_indices(3, 2, order="released") == [-3, -2, -1, 0, 1]
    assert layer_indices(1, 0) == [-1]


def test_released_indices_are_the_stock_ones_shifted() -> None:
    """Reference: stock counts 0 … m+n-1 over the sequence, target k at k-1."""
    m, n = 3, 2
    assert [z + m for z in layer_indices(m, n, order="released")] == list(range(m + n))


@pytest.mark.parametrize(("m", "n"), [(0, 1), (1, -1)])
def test_layer_indices_refuses_bad_counts(m: int, n: int) -> None:
    with pytest.raises(InputError, match="at least 1 target"):
        layer_indices(m, n)


def test_layer_indices_refuses_unknown_order() -> None:
    with pytest.raises(InputError, match='"relased".*did you mean "released"'):
        layer_indices(1, 1, order="relased")  # type: ignore[arg-type]


def test_global_shift_of_z_leaves_attention_scores_unchanged() -> None:
    rope = MSRoPEBiL(AXES)
    images, text = token_positions(shapes_of((4, 6), 2, 1), 5)
    before = scores(rope.rotations(images), rope.rotations(text))
    shift = torch.tensor([7, 0, 0])
    after = scores(rope.rotations(images + shift), rope.rotations(text + shift))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)
    moved_apart = scores(rope.rotations(images + shift), rope.rotations(text))
    assert (moved_apart - before).abs().max() > 0.1


@pytest.mark.parametrize(("m", "n"), [(1, 0), (1, 1), (2, 1), (3, 2)])
def test_equals_stock_up_to_the_shift(m: int, n: int) -> None:
    grid = (12, 20)
    stock_images, stock_text = QwenEmbedRope(10000, AXES, scale_rope=True)(
        [[(1, *grid)] * (m + n)], max_txt_seq_len=torch.tensor(9), device=torch.device("cpu")
    )
    rope = MSRoPEBiL(AXES)
    images, text = rope([shapes_of(grid, m, n, "released")], torch.device("cpu"), 9)
    shift = rope.rotations(torch.tensor([[m, 0, 0]]))  # multiplying by it moves z by m
    torch.testing.assert_close(images * shift, stock_images, atol=1e-5, rtol=0)
    torch.testing.assert_close(text * shift, stock_text, atol=1e-5, rtol=0)


def test_paper_and_released_agree_for_one_target_and_mirror_for_two() -> None:
    rope = MSRoPEBiL(AXES)

    def rotations(m: int, order: LayerOrder) -> torch.Tensor:
        return torch.cat(rope([shapes_of((4, 4), m, 1, order)], None, 5))

    assert torch.equal(rotations(1, "paper"), rotations(1, "released"))
    paper, released = rotations(2, "paper"), rotations(2, "released")
    assert not torch.allclose(paper, released)
    assert torch.equal(paper[:16], released[16:32])
    assert torch.equal(paper[32:], released[32:])


@settings(max_examples=200, deadline=None)
@given(
    m=st.integers(1, 8),
    n=st.integers(0, 8),
    grids=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=9, max_size=9),
    order=st.sampled_from(["paper", "released"]),
)
def test_text_never_meets_a_layer(m: int, n: int, grids: list[tuple[int, int]], order: LayerOrder) -> None:
    shapes = layer_shapes(grids[0], m, grids[1 : n + 1], order)
    z, yx = text_start(shapes)
    assert z >= n > max(shape[3] for shape in shapes)
    stock_start = max(max(rows // 2, columns // 2) for _, rows, columns, _ in shapes)
    if stock_start >= m + n:
        assert (z, yx) == (stock_start - m, stock_start)


def test_text_would_meet_a_layer_at_the_stock_start() -> None:
    """The trap that the previous test guards against is real: 32×32 pixels, three layers."""
    _, text = token_positions(shapes_of((2, 2), 2, 1, "released"), 1)
    assert max(2 // 2, 2 // 2) < 3 <= text[0, 0] + 2


def test_mixed_batch_is_refused() -> None:
    rope = MSRoPEBiL(AXES)
    for other in (shapes_of((4, 6), 2, 1), shapes_of((4, 4), 1, 1), shapes_of((4, 4), 2, 1, "released")):
        with pytest.raises(InputError, match="share its layer structure"):
            rope([shapes_of((4, 4), 2, 1), other], None, 3)


def test_shapes_without_layer_index_are_refused() -> None:
    with pytest.raises(InputError, match="rows, columns, z"):
        MSRoPEBiL(AXES)([[(1, 4, 4)]], None, 3)


def test_permuting_inputs_with_their_indices_permutes_outputs() -> None:
    model = with_layer_positions(tiny.transformer())
    generator = torch.Generator().manual_seed(0)
    layers = list(torch.randn(4, 1, 24, 64, generator=generator))  # two targets, two inputs of 4 x 6 tokens
    prompt = torch.randn(1, 5, tiny.HIDDEN, generator=generator), None
    shapes = shapes_of((4, 6), 2, 2)

    def run(sequence: list[int]) -> torch.Tensor:
        with torch.no_grad():
            tokens = torch.cat([layers[k] for k in sequence], dim=1)
            out = velocity(model, tokens, None, torch.tensor(0.5), prompt, [shapes[k] for k in sequence])
        return torch.stack(out.chunk(4, dim=1))

    straight, permuted = run([0, 1, 2, 3]), run([1, 0, 3, 2])
    torch.testing.assert_close(permuted, straight[[1, 0, 3, 2]], atol=1e-5, rtol=0)
    # Without their indices the order of layers does matter.
    with torch.no_grad():
        swapped = velocity(
            model, torch.cat([layers[k] for k in (1, 0, 2, 3)], 1), None, torch.tensor(0.5), prompt, shapes
        )
    assert not torch.allclose(torch.stack(swapped.chunk(4, dim=1))[[1, 0, 2, 3]], straight, atol=1e-3)
