"""What a call asks for, without running a model: batches, defaults and sizes."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import tiny
from omnialpha.errors import InputError
from omnialpha.models.profile import RELEASED, Profile
from omnialpha.request import Request, choose_sizes, fit_inputs, understand


def ask(profile: Profile = RELEASED, **options: Any) -> Request:
    nothing: dict[str, Any] = dict.fromkeys(
        ("task", "text", "prompt", "images", "num_targets", "steps", "true_cfg_scale", "num_embeds")
    )
    return understand(profile, **nothing | options)


def test_task_and_profile_fill_in_the_defaults() -> None:
    request = ask(task="decomposition_auto", images=[tiny.picture()])
    assert (request.num_inputs, request.num_targets) == (1, 2)
    assert (request.steps, request.true_cfg_scale) == (50, 4.0)
    assert request.prompts == [RELEASED.instructions["decomposition_auto"]]
    assert ask(task="removal_auto", images=[tiny.picture()]).prompts == [
        "Remove the foreground and restore the background."
    ]


def test_the_call_wins_over_the_profile() -> None:
    request = ask(prompt="x", steps=7, true_cfg_scale=1.5, num_targets=3)
    assert (request.steps, request.true_cfg_scale, request.num_targets) == (7, 1.5, 3)


@pytest.mark.parametrize(
    ("options", "batch_size"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": ["a", "b"]}, 2),
        ({"prompt": ["a", "b"], "images": [tiny.picture()]}, 2),
        ({"prompt": "a", "images": [[tiny.picture()], [tiny.picture(1)], [tiny.picture(2)]]}, 3),
        ({"num_embeds": 4, "images": tiny.picture()}, 4),
        ({"task": "matting_text", "text": ["a", "b"], "images": [[tiny.picture()]] * 2}, 2),
    ],
)
def test_batch_size(options: dict[str, Any], batch_size: int) -> None:
    request = ask(**options)
    assert len(request.prompts) == len(request.images) == len(request.texts) == batch_size


@pytest.mark.parametrize(
    ("task", "size", "work"),
    [
        # One megapixel for all pictures of a call: two for matting, three for decomposition.
        ("matting_auto", (2000, 2000), (736, 736)),
        ("decomposition_auto", (2000, 2000), (576, 576)),
        ("matting_auto", (500, 300), (512, 288)),
        ("matting_auto", (512, 288), (512, 288)),
    ],
)
def test_working_size_of_the_released_profile(task: str, size: tuple[int, int], work: tuple[int, int]) -> None:
    request = ask(task=task, images=[tiny.picture(size=size)])
    assert choose_sizes(request, RELEASED, None, None) == (size, work)
    fitted = fit_inputs(request, RELEASED, work, explicit=False)[0][0]
    assert fitted.size == (size if size[0] < 1000 else work)


def test_picture_from_words_alone_takes_the_whole_area() -> None:
    assert choose_sizes(ask(prompt="x"), RELEASED, None, None) == ((1024, 1024), (1024, 1024))


def test_explicit_size_is_not_limited_and_holds_for_the_inputs_of_a_task() -> None:
    task = ask(task="matting_auto", images=[tiny.picture(size=(100, 50))])
    exact, work = choose_sizes(task, RELEASED, 1000, 2000)
    assert (exact, work) == ((2000, 1000), (1984, 992))
    assert fit_inputs(task, RELEASED, work, explicit=True)[0][0].size == work
    bare = ask(prompt="x", images=[tiny.picture(size=(100, 50))])
    assert fit_inputs(bare, RELEASED, work, explicit=True)[0][0].size == (100, 50)


@pytest.mark.parametrize(("size", "level"), [((2000, 2000), logging.WARNING), ((100, 50), logging.INFO)])
def test_scaling_is_logged(size: tuple[int, int], level: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "omnialpha"):
        choose_sizes(ask(prompt="x", images=[tiny.picture(size=size)]), RELEASED, None, None)
    assert [(record.levelno, str(size[0]) in record.getMessage()) for record in caplog.records] == [(level, True)]


def test_guides_are_checked_by_slot() -> None:
    with pytest.raises(InputError, match="rough_mask is empty"):
        ask(task="removal_rough_mask", images=[tiny.picture(), tiny.picture().point(lambda _: 0)])
