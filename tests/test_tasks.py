"""tasks.py against Table 1 of the paper, typed here by hand, and the errors that wrong use gets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from omnialpha.errors import InputError
from omnialpha.tasks import CATEGORIES, TASKS, task

# Table 1, row by row: id, category, inputs, caption, outputs. "*" marks {I_fg}: one or more pictures.
TABLE_1 = [
    ("text_to_image", "text_to_image", [], "foreground", ["foreground"]),
    ("foreground_to_background", "completion", ["foregrounds*"], "background", ["background"]),
    ("foreground_to_composite", "completion", ["foregrounds*"], "composite", ["composite"]),
    ("background_to_foreground", "completion", ["background"], "foreground", ["foregrounds*"]),
    ("background_to_composite", "completion", ["background"], "composite", ["composite"]),
    ("matting_auto", "matting", ["composite"], None, ["foreground"]),
    ("matting_alpha", "matting", ["composite", "alpha"], None, ["foreground"]),
    ("matting_trimap", "matting", ["composite", "trimap"], None, ["foreground"]),
    ("matting_precise_mask", "matting", ["composite", "precise_mask"], None, ["foreground"]),
    ("matting_rough_mask", "matting", ["composite", "rough_mask"], None, ["foreground"]),
    ("matting_text", "matting", ["composite"], "foreground", ["foreground"]),
    ("removal_auto", "removal", ["composite"], None, ["background"]),
    ("removal_alpha", "removal", ["composite", "alpha"], None, ["background"]),
    ("removal_trimap", "removal", ["composite", "trimap"], None, ["background"]),
    ("removal_precise_mask", "removal", ["composite", "precise_mask"], None, ["background"]),
    ("removal_rough_mask", "removal", ["composite", "rough_mask"], None, ["background"]),
    ("decomposition_auto", "decomposition", ["composite"], None, ["foregrounds*", "background"]),
    ("decomposition_alpha", "decomposition", ["composite", "alpha"], None, ["foreground", "background"]),
    ("decomposition_trimap", "decomposition", ["composite", "trimap"], None, ["foreground", "background"]),
    ("decomposition_precise_mask", "decomposition", ["composite", "precise_mask"], None, ["foreground", "background"]),
    ("decomposition_rough_mask", "decomposition", ["composite", "rough_mask"], None, ["foreground", "background"]),
]
EACH = pytest.mark.parametrize("row", TABLE_1, ids=[row[0] for row in TABLE_1])


def test_tasks_are_table_1_in_its_order() -> None:
    assert list(TASKS) == [row[0] for row in TABLE_1]
    assert len(TASKS) == 21
    assert list(dict.fromkeys(row.category for row in TASKS.values())) == list(CATEGORIES)


@EACH
def test_slots_and_counts_match_table_1(row: tuple[str, str, list[str], str | None, list[str]]) -> None:
    name, category, inputs, text, targets = row
    entry = TASKS[name]
    assert (entry.id, entry.category, entry.text) == (name, category, text)
    assert [slot.rstrip("*") for slot in inputs] == list(entry.inputs)
    assert [slot.rstrip("*") for slot in targets] == list(entry.targets)

    accepted = [count for count in range(6) if _accepts(entry.check_images, count)]
    least = len(inputs)
    assert accepted == (list(range(least, 6)) if any(slot.endswith("*") for slot in inputs) else [least])

    accepted = [count for count in range(6) if _accepts(entry.num_targets, count)]
    least = len(targets)
    assert accepted == (list(range(least, 6)) if any(slot.endswith("*") for slot in targets) else [least])
    assert entry.num_targets() == least


def _accepts(check: object, count: int) -> bool:
    try:
        check(count)  # type: ignore[operator]
    except InputError:
        return False
    return True


@EACH
def test_wordings(row: tuple[str, str, list[str], str | None, list[str]]) -> None:
    entry = TASKS[row[0]]
    wordings = (entry.instruction, *entry.paraphrases)
    assert len(entry.paraphrases) >= 8
    for wording in wordings:
        assert wording.count("{text}") == (0 if entry.text is None else 1)
        assert wording.count("{") == wording.count("{text}")
        assert 3 <= len(wording.replace("{text}", "").split()) <= 14, wording
    if len(entry.inputs) == 2:
        kind = {"alpha": "alpha matte", "trimap": "trimap", "precise_mask": "precise mask", "rough_mask": "rough mask"}
        assert all(kind[entry.inputs[1]] in wording for wording in wordings)


def test_no_two_tasks_share_a_wording() -> None:
    """The wording is all that tells removal from matting to the model, so none may ask for two tasks."""
    wordings = [wording for entry in TASKS.values() for wording in (entry.instruction, *entry.paraphrases)]
    assert len(wordings) == len(set(wordings))


def test_records_and_registry_are_read_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS["matting_auto"].text = "foreground"  # type: ignore[misc]
    with pytest.raises(TypeError):
        TASKS["another"] = TASKS["matting_auto"]  # type: ignore[index]


def test_prompt_fills_the_caption() -> None:
    entry = task("text_to_image")
    assert entry.prompt(" a {blue} jay ") == entry.instruction.replace("{text}", "a {blue} jay")
    assert entry.prompt("a jay", template="Draw {text}.") == "Draw a jay."
    assert task("removal_auto").prompt() == task("removal_auto").instruction


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_missing_text_is_refused(text: str | None) -> None:
    with pytest.raises(InputError, match="background_to_composite needs a text that describes the composite"):
        task("background_to_composite").prompt(text)


def test_superfluous_text_is_refused_with_a_remedy() -> None:
    with pytest.raises(InputError, match="matting_auto takes no text.*use matting_text"):
        task("matting_auto").prompt("a dog")
    with pytest.raises(InputError, match="removal_auto takes no text.*leave the text out$"):
        task("removal_auto").prompt("a dog")


def test_wrong_number_of_images_names_the_slots() -> None:
    with pytest.raises(InputError, match=r"removal_trimap takes 2 images \(composite, then trimap\), received 1"):
        task("removal_trimap").check_images(1)
    with pytest.raises(InputError, match=r"matting_auto takes 1 image \(composite\), received 0"):
        task("matting_auto").check_images(0)
    with pytest.raises(InputError, match=r"foreground_to_composite takes 1 or more images"):
        task("foreground_to_composite").check_images(0)
    with pytest.raises(InputError, match="text_to_image takes no images, received 1"):
        task("text_to_image").check_images(1)


def test_wrong_number_of_layers_is_refused() -> None:
    with pytest.raises(InputError, match=r"decomposition_auto gives 2 or more layers.*received num_targets=1"):
        task("decomposition_auto").num_targets(1)
    with pytest.raises(InputError, match=r"matting_auto gives exactly 1 layer \(foreground\).*received num_targets=2"):
        task("matting_auto").num_targets(2)


def test_layer_names_are_front_to_back_with_the_background_last() -> None:
    assert task("decomposition_auto").layer_names(2) == ("foreground 1", "background")
    assert task("decomposition_auto").layer_names(4) == ("foreground 1", "foreground 2", "foreground 3", "background")
    assert task("decomposition_alpha").layer_names(2) == ("foreground", "background")
    assert task("background_to_foreground").layer_names(2) == ("foreground 1", "foreground 2")
    assert task("removal_auto").layer_names(1) == ("background",)
    with pytest.raises(InputError):
        task("removal_auto").layer_names(3)


def test_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match='unknown task "mating_auto".*"matting_auto"'):
        task("mating_auto")
    with pytest.raises(InputError, match="omnialpha.tasks.TASKS"):
        task("zzzz")


def test_importing_tasks_imports_neither_torch_nor_numpy() -> None:
    code = "import sys, omnialpha.tasks; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
