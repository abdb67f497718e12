"""Plans: how they are written, which go together, and where they run."""

import tomllib
from pathlib import Path

import pytest

from omnialpha.errors import InputError
from omnialpha.memory.apply import EXTRA
from omnialpha.memory.plans import STORAGES, Plan, candidates, check_device, in_place, parse


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_candidate_is_written_as_it_is_read_and_runs_there(device: str) -> None:
    plans = candidates(device)
    assert Plan() in plans
    for plan in plans:
        assert parse(plan.name) == plan
        check_device(plan, device)
    assert set(in_place(device)) < set(plans)


def test_a_gguf_file_is_a_storage() -> None:
    plan = parse("some/weights.gguf+free_text_encoder")
    assert (plan.storage, plan.offload, str(plan.file)) == ("gguf", "free_text_encoder", "some/weights.gguf")
    assert plan in candidates("cuda", plan.file)
    assert all(p.storage != "gguf" for p in candidates("cuda"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fp8_layerwize", 'did you mean "fp8_layerwise"'),
        ("", "expected"),
        ("int8+nf4", "two of a kind"),
        ("model_offload+group_offload", "two of a kind"),
        ("gguf", "the file itself"),
        ("nf4+group_offload", "group_offload moves plain weights only"),
    ],
)
def test_other_words_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


@pytest.mark.parametrize(("text", "instead"), [("nf4", "fp8_layerwise"), ("model_offload", "group_offload")])
def test_what_a_device_cannot_do_is_refused(text: str, instead: str) -> None:
    with pytest.raises(InputError, match=instead):
        check_device(parse(text), "cpu")


def test_the_optional_packages_are_in_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"][EXTRA]
    for storage in STORAGES.values():
        assert storage.module is None or any(line.startswith(storage.module) for line in declared)
