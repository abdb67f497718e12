"""Examples of all 21 tasks: slots filled as Table 1 says."""

import numpy as np
import pytest

from corpus import make_corpus
from omnialpha.data.examples import guide_picture, make_example
from omnialpha.data.scenes import Corpus, draw_scene
from omnialpha.tasks import TASKS


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    corpus = Corpus(make_corpus(tmp_path_factory.mktemp("corpora") / "c"), "train")
    return {n: draw_scene(corpus, np.random.default_rng(n), 48, n) for n in (1, 2)}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("count", [1, 2])
def test_every_task_gets_its_slots(scenes, name, count) -> None:
    task = TASKS[name]
    example = make_example(scenes[count], task, np.random.default_rng(0))
    task.check_images(len(example.inputs))
    assert task.num_targets(len(example.targets)) == len(example.targets)
    for picture in (*example.inputs, *example.targets):
        assert picture.shape == (48, 48, 4)
        assert picture.dtype == np.float32
    assert (example.caption is None) == (task.text is None)
    if example.caption is not None:
        assert example.caption in example.prompt
    assert "{" not in example.prompt


def test_targets_follow_table_1_order_and_recompose(scenes) -> None:
    scene = scenes[2]
    front, behind, background = make_example(scene, TASKS["decomposition_auto"], np.random.default_rng(0)).targets
    picture = background
    for layer in (behind, front):
        alpha = layer[..., 3:]
        picture = layer * alpha + picture * (1 - alpha)
    np.testing.assert_allclose(picture[..., :3], scene.composite[..., :3], atol=1e-5)


def test_a_guided_task_about_one_object_leaves_the_other_in_the_background(scenes) -> None:
    scene = scenes[2]
    for focus in (0, 1):
        example = make_example(scene, TASKS["decomposition_alpha"], np.random.default_rng(0), focus=focus)
        foreground, background = example.targets
        assert foreground is scene.foregrounds[focus]
        np.testing.assert_array_equal(example.inputs[1][..., 0], foreground[..., 3])
        other = scene.foregrounds[1 - focus][..., 3] == 1
        assert other.any()
        assert not np.allclose(background[other], scene.background[other])
    # The caption names the same object as the target.
    example = make_example(scene, TASKS["matting_text"], np.random.default_rng(0), focus=1)
    assert example.caption == scene.captions[1]
    assert example.targets[0] is scene.foregrounds[1]


def test_guides_are_opaque_grey_and_ordered_by_how_much_they_tell(scenes) -> None:
    alpha = scenes[1].foregrounds[0][..., 3]
    guides = {
        slot: guide_picture(alpha, slot, np.random.default_rng(0))
        for slot in ("alpha", "trimap", "precise_mask", "rough_mask")
    }
    for guide in guides.values():
        assert (guide[..., 3] == 1).all()
        assert (guide[..., 0] == guide[..., 2]).all()
    assert (guides["rough_mask"][..., 0] >= guides["precise_mask"][..., 0]).all()
    assert set(np.unique(guides["trimap"][..., 0] * 255)) == {0, 128, 255}


def test_wording_is_drawn_or_canonical(scenes) -> None:
    task = TASKS["matting_auto"]
    drawn = {make_example(scenes[1], task, np.random.default_rng(s)).prompt for s in range(60)}
    assert drawn == {task.instruction, *task.paraphrases}
    assert make_example(scenes[1], task, np.random.default_rng(0), paraphrase=False).prompt == task.instruction
