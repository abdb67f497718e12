"""Profiles: plain data that survives JSON and refuses what it does not know."""

import json

import pytest

from omnialpha.errors import CheckpointError
from omnialpha.models.profile import PAPER, RELEASED, Profile
from omnialpha.tasks import TASKS


@pytest.mark.parametrize("profile", [PAPER, RELEASED], ids=lambda profile: profile.name)
def test_survives_json(profile: Profile) -> None:
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_unknown_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(CheckpointError, match='"layer_ordr".*did you mean "layer_order"'):
        Profile.from_dict({"name": "x", "layer_ordr": "paper"})


@pytest.mark.parametrize("values", [{"layer_order": "stock"}, {"prompt_template": "no place"}])
def test_impossible_values_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(CheckpointError):
        Profile.from_dict({"name": "x", **values})


def test_released_wordings_belong_to_tasks_and_take_their_text() -> None:
    for task_id, wording in RELEASED.instructions.items():
        assert ("{text}" in wording) == (TASKS[task_id].text is not None)
