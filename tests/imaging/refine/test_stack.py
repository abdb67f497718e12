"""`refine` on whole results: sizes, guides, several foregrounds, residual, what is refused."""

import numpy as np
import pytest
from PIL import Image

from omnialpha.errors import InputError
from omnialpha.imaging.layers import Layer, LayerStack
from omnialpha.imaging.refine import is_reduced, refine
from omnialpha.imaging.rgba import to_array, to_pil

SIZE = (120, 96)
WORK = (20, 16)


def disk(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    return np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1).astype(np.float32)


def layer(colour: tuple[float, float, float], alpha: np.ndarray) -> np.ndarray:
    return np.dstack([*(np.full_like(alpha, c) for c in colour), alpha])


BACK = layer((0.2, 0.4, 0.7), np.ones((SIZE[1], SIZE[0]), np.float32))
FRONT = layer((0.9, 0.3, 0.1), disk(50, 48, 26))
BEHIND = layer((0.1, 0.8, 0.2), disk(80, 48, 26))


def picture(*layers: np.ndarray) -> Image.Image:
    return LayerStack([Layer(to_pil(each)) for each in layers]).flatten()


def small(array: np.ndarray) -> Image.Image:
    return to_pil(array).convert("RGBa").resize(WORK, Image.Resampling.BOX).convert("RGBA")


def raw(**layers: np.ndarray) -> LayerStack:
    """What a perfect model returns at its working size; names as keywords, "_" for a blank."""
    return LayerStack([Layer(small(array), name.replace("_", " ")) for name, array in layers.items()])


def error(image: Image.Image, true: np.ndarray) -> float:
    return float(np.abs(to_array(image)[..., 3] - true[..., 3]).mean())


def test_matting_returns_the_inputs_size_and_pixels() -> None:
    image = picture(BACK, FRONT)
    refined = refine("matting_auto", [image], raw(foreground=FRONT))
    assert refined.size == SIZE
    assert refined.metadata["refined"] is True
    pixels, true = np.asarray(refined[0].image), to_pil(FRONT)
    solid = pixels[..., 3] == 255
    assert solid.sum() > 0.9 * (FRONT[..., 3] == 1).sum()
    np.testing.assert_array_equal(pixels[solid][:, :3], np.asarray(image)[solid][:, :3])
    plain = raw(foreground=FRONT)[0].image.resize(SIZE, Image.Resampling.BICUBIC)
    assert error(refined[0].image, FRONT) < 0.3 * error(plain, FRONT)
    for colour in ("black", "white", "magenta"):  # no rim over any background
        shown, wanted = (
            np.asarray(Image.alpha_composite(Image.new("RGBA", SIZE, colour), each), int)
            for each in (refined[0].image, true)
        )
        assert np.abs(shown - wanted).mean() < 2


@pytest.mark.parametrize("slot", ["alpha", "trimap", "precise_mask", "rough_mask"])
def test_every_guide_makes_a_wrong_model_better(slot: str) -> None:
    alpha = FRONT[..., 3]
    near = disk(50, 48, 34) > 0
    guide = {
        "alpha": alpha,
        "trimap": np.where(disk(50, 48, 18) == 1, 1, np.where(near, 0.5, 0)),
        "precise_mask": (alpha > 0.95).astype(np.float32),
        "rough_mask": near.astype(np.float32),
    }[slot]
    image, wrong = picture(BACK, FRONT), raw(foreground=np.roll(FRONT, 24, axis=1))
    guided = refine(f"matting_{slot}", [image, to_pil(guide.astype(np.float32))], wrong)[0].image
    assert error(guided, FRONT) < 0.1 * error(wrong[0].image.resize(SIZE, Image.Resampling.BICUBIC), FRONT)
    if slot == "alpha":
        np.testing.assert_allclose(to_array(guided)[..., 3], alpha, atol=1 / 255)


def test_decomposition_keeps_the_background_and_the_residual_makes_it_exact() -> None:
    image = picture(BACK, FRONT)
    stack = raw(background=BACK * [0.95, 0.95, 0.95, 1], foreground_1=FRONT)
    refined = refine("decomposition_auto", [image], stack, residual=True)
    assert [each.name for each in refined] == ["background", "foreground 1", "residual"]
    background = np.asarray(refined[0].image)
    np.testing.assert_array_equal(background[:, 100:], np.asarray(image)[:, 100:])
    assert np.abs(np.asarray(refined.flatten(), int) - np.asarray(image)).max() <= 1


def test_hidden_parts_of_a_foreground_are_the_models() -> None:
    image = picture(BACK, BEHIND, FRONT)
    refined = refine("decomposition_auto", [image], raw(background=BACK, foreground_2=BEHIND, foreground_1=FRONT))
    behind = to_array(refined[1].image)
    hidden = (disk(80, 48, 18) == 1) & (disk(50, 48, 22) == 1)
    assert hidden.sum() > 50
    np.testing.assert_allclose(behind[hidden], BEHIND[hidden], atol=0.03)
    np.testing.assert_allclose(behind[48, 100], BEHIND[48, 100], atol=0.02)


@pytest.mark.parametrize("task", ["removal_auto", "removal_precise_mask"])
def test_removal_changes_nothing_but_the_object(task: str) -> None:
    image = picture(BACK, FRONT)
    guides = [to_pil((FRONT[..., 3] > 0.95).astype(np.float32))] if task != "removal_auto" else []
    result = np.asarray(refine(task, [image, *guides], raw(background=BACK))[0].image)
    np.testing.assert_array_equal(result[:, 100:], np.asarray(image)[:, 100:])
    np.testing.assert_allclose(result, np.asarray(to_pil(BACK)), atol=2)


def test_a_stack_scaled_by_the_pipeline_is_refined_from_its_working_size() -> None:
    image = picture(BACK, FRONT)
    scaled = small(FRONT).resize(SIZE, Image.Resampling.BICUBIC)
    stack = LayerStack([Layer(scaled, "foreground")], SIZE, {"work_size": list(WORK), "seed": 3})
    assert is_reduced(stack)
    refined = refine("matting_auto", [image], stack)
    assert error(refined[0].image, FRONT) < 0.5 * error(scaled, FRONT)
    assert refined.metadata["seed"] == 3
    assert not is_reduced(LayerStack([Layer(scaled)], SIZE, {"work_size": list(SIZE)}))


def test_transparent_inputs_stay_transparent() -> None:
    image = picture(BACK, FRONT)
    image.putalpha(Image.new("L", SIZE, 255))
    image.paste((0, 0, 0, 0), (0, 0, 50, SIZE[1]))
    refined = refine("matting_auto", [image], raw(foreground=FRONT))
    assert np.asarray(refined[0].image)[:, :50, 3].max() == 0


def test_a_composite_shows_the_given_foregrounds_as_they_are() -> None:
    rng = np.random.default_rng(0)
    front, back = (rng.integers(0, 256, (40, 60, 4), np.uint8) for _ in range(2))
    front[:, :20, 3], back[:, :40, 3] = 255, 255  # the front one hides the other's left part
    front[:, 20:, 3], back[:, 40:, 3] = 0, 0
    front[:, 50:, 3] = 128
    painted = Image.new("RGBA", (6, 4), (10, 200, 30, 255))
    images = [Image.fromarray(front), Image.fromarray(back)]
    result = refine("foreground_to_composite", images, LayerStack([Layer(painted, "composite")]))
    assert result.size == (60, 40)
    shown = np.asarray(result[0].image).astype(int)
    assert (shown[:, :20, :3] == front[:, :20, :3]).all()
    assert (shown[:, 20:40, :3] == back[:, 20:40, :3]).all()
    assert (shown[:, 40:50] == (10, 200, 30, 255)).all()
    mixed = (128 * front[:, 50:, :3].astype(float) + 127 * np.array([10, 200, 30])) / 255
    assert np.abs(shown[:, 50:, :3] - mixed).max() <= 1


def test_tasks_without_a_composite_are_left_alone() -> None:
    stack = raw(foreground=FRONT)
    assert refine("text_to_image", [], stack) is stack


def test_what_does_not_fit_is_refused() -> None:
    image, stack = picture(BACK, FRONT), raw(foreground=FRONT)
    with pytest.raises(InputError, match="one size, received 120×96, 8×8"):
        refine("matting_trimap", [image, Image.new("L", (8, 8))], stack)
    with pytest.raises(InputError, match="takes nothing apart"):
        refine("matting_auto", [image], stack, residual=True)
    with pytest.raises(InputError, match="takes 1 image"):
        refine("matting_auto", [], stack)
