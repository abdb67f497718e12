"""Layers: the algebra of "over", flattening against Pillow, and the residual's promise."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.layers import Layer, LayerStack, over
from omnialpha.imaging.rgba import premultiply, to_array

_pixels = hnp.arrays(np.float64, (3, 4), elements=st.floats(0, 1, width=32))
_bytes = hnp.arrays(np.uint8, (4, 4, 4), elements=st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 254, 255])))


def _random_image(width: int, height: int, seed: int, opaque: bool = False) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    if opaque:
        pixels[..., 3] = 255
    return Image.fromarray(pixels)


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@settings(deadline=None)
@given(_pixels, _pixels, _pixels)
def test_over_is_associative(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    """Compared premultiplied: a colour next to alpha 0 is ill-conditioned and invisible."""
    left, right = premultiply(over(over(a, b), c)), premultiply(over(a, over(b, c)))
    np.testing.assert_allclose(left, right, atol=1e-12)


@settings(deadline=None)
@given(_pixels)
def test_transparent_is_the_identity_of_over(a: np.ndarray) -> None:
    nothing = np.zeros_like(a)
    np.testing.assert_allclose(premultiply(over(a, nothing)), premultiply(a), atol=1e-12)
    np.testing.assert_allclose(premultiply(over(nothing, a)), premultiply(a), atol=1e-12)


@settings(deadline=None)
@given(_pixels, _pixels)
def test_an_opaque_front_hides_what_is_behind(front: np.ndarray, back: np.ndarray) -> None:
    front[..., 3] = 1
    np.testing.assert_array_equal(over(front, back), front)


@settings(deadline=None)
@given(_bytes, _bytes)
def test_flatten_agrees_with_pillow(front: np.ndarray, back: np.ndarray) -> None:
    flat = LayerStack([Layer(Image.fromarray(back)), Layer(Image.fromarray(front))]).flatten()
    reference = Image.alpha_composite(Image.fromarray(back), Image.fromarray(front))
    visible = _array(reference)[..., 3] > 0
    assert np.abs(_array(flat) - _array(reference))[visible].max(initial=0) <= 1
    np.testing.assert_array_equal(_array(flat)[~visible], 0)


def test_flatten_rounds_once() -> None:
    """Twenty faint layers: rounding after each would lose what they add."""
    faint = Image.new("RGBA", (1, 1), (255, 255, 255, 1))
    flat = LayerStack([Layer(Image.new("RGBA", (1, 1), (0, 0, 0, 255))), *[Layer(faint, opacity=0.4)] * 20]).flatten()
    assert flat.getpixel((0, 0)) == (round(255 * (1 - (1 - 0.4 / 255) ** 20)),) * 3 + (255,)


def test_offset_opacity_and_visibility() -> None:
    back, front = _random_image(6, 5, 0, opaque=True), _random_image(4, 4, 1)
    for offset in [(0, 0), (3, 2), (-2, -3), (50, 0), (0, -4)]:
        layers = [Layer(back), Layer(front, opacity=0.6, offset=offset), Layer(front, visible=False)]
        flat = LayerStack(layers, back.size).flatten()
        faded = front.copy()
        faded.putalpha(front.getchannel("A").point(lambda alpha: round(alpha * 0.6)))
        expected = back.copy()
        moved = Image.new("RGBA", back.size)
        moved.paste(faded, offset)
        expected.alpha_composite(moved)
        assert np.abs(_array(flat) - _array(expected)).max() <= 1


def test_a_stack_reads_as_a_sequence() -> None:
    layers = [Layer(_random_image(2, 2, i), name=str(i)) for i in range(3)]
    stack = LayerStack(layers, metadata={"seed": 1})
    assert len(stack) == 3
    assert stack[0] is layers[0]
    assert stack[-1].name == "2"
    assert [layer.name for layer in reversed(stack)] == ["2", "1", "0"]
    assert [layer.name for layer in stack[1:]] == ["1", "2"]
    assert stack[:1].metadata == {"seed": 1}
    assert repr(stack) == "LayerStack(2×2, ['0', '1', '2'])"


def test_the_canvas_reaches_to_the_ends_of_the_layers() -> None:
    stack = LayerStack([Layer(_random_image(4, 2, 0), offset=(-1, 3)), Layer(_random_image(2, 2, 0), offset=(5, 0))])
    assert stack.size == (7, 5)
    assert stack.flatten().size == (7, 5)


def test_senseless_layers_and_canvases_are_refused() -> None:
    with pytest.raises(InputError, match="opacity"):
        Layer(_random_image(1, 1, 0), opacity=1.1)
    with pytest.raises(InputError, match="opacity"):
        Layer(_random_image(1, 1, 0), opacity=float("nan"))
    with pytest.raises(InputError, match="at least one pixel"):
        Layer(Image.new("RGBA", (0, 3)))
    for size in ((0, 4), (1 << 14, 1 << 14)):
        with pytest.raises(InputError, match="the canvas of a stack"):
            LayerStack([], size)
    with pytest.raises(InputError, match="the canvas of a stack"):
        LayerStack()


def test_other_modes_become_rgba() -> None:
    layer = Layer(Image.new("LA", (1, 1), (9, 8)))
    assert layer.image.getpixel((0, 0)) == (9, 9, 9, 8)


@settings(deadline=None, max_examples=300)
@given(_bytes, _bytes, _bytes)
def test_the_residual_completes_any_stack_to_any_opaque_image(a: np.ndarray, b: np.ndarray, image: np.ndarray) -> None:
    image[..., 3] = 255
    stack = LayerStack([Layer(Image.fromarray(a)), Layer(Image.fromarray(b), opacity=0.7)])
    stack.layers.append(stack.residual(Image.fromarray(image)))
    assert np.abs(_array(stack.flatten()) - image.astype(int)).max() <= 1


@pytest.mark.parametrize("seed", range(3))
def test_the_residual_completes_a_translucent_stack_to_a_picture_it_was_part_of(seed: int) -> None:
    whole = LayerStack([Layer(_random_image(256, 256, seed)), Layer(_random_image(256, 256, seed + 100))])
    wanted, rest = whole.flatten(), whole[:1]
    rest.layers.append(rest.residual(wanted))
    shown = _array(wanted)[..., 3] > 0
    assert np.abs(_array(rest.flatten()) - _array(wanted))[shown].max(initial=0) <= 1


def test_the_residual_on_nothing_is_the_image() -> None:
    image = _random_image(5, 5, 0)
    residual = LayerStack([], (5, 5)).residual(image)
    visible = _array(image)[..., 3] > 0
    np.testing.assert_array_equal(_array(residual.image)[visible], _array(image)[visible])


def test_the_residual_is_empty_where_nothing_is_missing() -> None:
    image = _random_image(6, 6, 0, opaque=True)
    nearly = Image.fromarray(np.clip(_array(image) + np.array([1, -1, 0, 0]), 0, 255).astype(np.uint8))
    assert LayerStack([Layer(nearly)]).residual(image).image.getchannel("A").getextrema() == (0, 0)


@settings(deadline=None, max_examples=60)
@given(stack=st.tuples(*[st.integers(0, 255)] * 3), image=st.tuples(*[st.integers(0, 255)] * 3))
def test_the_residual_has_the_smallest_alpha(stack: tuple[int, int, int], image: tuple[int, int, int]) -> None:
    """Brute force: one step less alpha and no colour reaches the image within half a step."""
    residual = LayerStack([Layer(Image.new("RGB", (1, 1), stack))]).residual(
        Image.new("RGB", (1, 1), image).convert("RGBA")
    )
    alpha = residual.image.getpixel((0, 0))[3]  # type: ignore[index]
    if alpha == 0:
        assert max(abs(s - i) for s, i in zip(stack, image, strict=True)) <= 1
        return
    less = (alpha - 1) / 255
    nearest = [np.clip(i, s * (1 - less), s * (1 - less) + 255 * less) for s, i in zip(stack, image, strict=True)]
    assert max(abs(n - i) for n, i in zip(nearest, image, strict=True)) > 0.49


def test_an_impossible_residual_says_why() -> None:
    opaque = LayerStack([Layer(_random_image(3, 3, 0, opaque=True))])
    with pytest.raises(InputError, match="at 9 pixels the stack is less transparent"):
        opaque.residual(Image.new("RGBA", (3, 3)))
    with pytest.raises(InputError, match=r"canvas's size \(3, 3\), not \(4, 3\)"):
        opaque.residual(Image.new("RGBA", (4, 3)))


def test_a_layer_keeps_what_eight_bits_cannot_hold() -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (5, 4, 4), dtype=np.uint16)
    layer = Layer.from_array(samples, "deep", offset=(2, 1), opacity=0.5, visible=False)
    assert (layer.name, layer.offset, layer.opacity, layer.visible) == ("deep", (2, 1), 0.5, False)
    np.testing.assert_array_equal(np.rint(layer.array() * 65535), samples)
    np.testing.assert_array_equal(np.asarray(layer.image), np.rint(samples / 257))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
def test_eight_bits_in_a_wider_type_are_eight_bits(kind: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    steps = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    layer = Layer.from_array((pixels * (steps / 255)).astype(kind))
    assert layer.deep is None
    np.testing.assert_array_equal(np.asarray(layer.image), pixels)
    np.testing.assert_array_equal(layer.array(), to_array(layer.image))


def test_a_new_picture_takes_the_place_of_the_finer_one() -> None:
    layer = Layer.from_array(np.full((2, 2, 4), 1000, np.uint16))
    assert layer.deep is not None
    copied = dataclasses.replace(layer, name="copy")  # of 8 bits: a copy never pairs a picture with another's values
    assert copied.deep is None
    layer.image = Image.new("RGBA", (2, 2), "red")
    assert layer.array()[0, 0].tolist() == [1, 0, 0, 1]


def test_flattening_uses_the_finer_values() -> None:
    back = Layer.from_array(np.full((1, 1, 4), 65535, np.uint16))
    front = Layer.from_array(np.array([[[0, 0, 0, 100]]], np.uint16), offset=(0, 0))
    flat = LayerStack([back, front]).flatten_array()
    np.testing.assert_allclose(flat[0, 0], [1 - 100 / 65535] * 3 + [1], rtol=1e-6)
