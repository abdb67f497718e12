"""Manifests: what is written is read back, mistakes are named by line, files are checked, scenes are read aligned."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from layered import write_sample
from omnialpha.data.examples import make_example
from omnialpha.data.manifest import Sample, check_files, read_manifest, read_scene, write_manifest
from omnialpha.errors import ImageError, InputError
from omnialpha.tasks import TASKS


def test_a_written_manifest_reads_back_equal_from_a_moved_folder(tmp_path) -> None:
    samples = [
        write_sample(tmp_path / "data", "two", foregrounds=2),
        dataclasses.replace(write_sample(tmp_path / "data", "bare"), background=None, score=0.25, split="test"),
    ]
    write_manifest(samples, tmp_path / "data" / "m.jsonl")
    assert read_manifest(tmp_path / "data" / "m.jsonl") == samples
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = read_manifest(tmp_path / "moved" / "m.jsonl")
    assert check_files(moved) == []
    assert moved[0].files[0].is_relative_to(tmp_path / "moved")


def test_what_says_nothing_is_left_out_and_equal_samples_give_equal_bytes(tmp_path) -> None:
    sample = Sample(id="a", foregrounds=(tmp_path / "f.png",))
    write_manifest([sample], tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_bytes() == b'{"foregrounds": ["f.png"], "id": "a"}\n'
    assert sample.captions == ("",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "expected a JSON object"),
        ('{"id": "b"}', "foregrounds is missing"),
        ('{"foregrounds": ["f.png"]}', "id is missing"),
        ('{"id": "b", "foregrounds": []}', "foregrounds is missing or empty"),
        ('{"id": "b", "foregrounds": "f.png"}', "expected a list of texts"),
        ('{"id": "b", "foregrounds": ["f.png"], "captions": ["x", "y"]}', "2 captions for 1 foregrounds"),
        ('{"id": "b", "foregrounds": ["f.png"], "capitons": ["x"]}', 'did you mean "captions"'),
        ('{"id": "b", "foregrounds": ["f.png"], "score": "good"}', "expected a number"),
        ('{"id": "a", "foregrounds": ["f.png"]}', "stands in line 1 too"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, said) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"id": "a", "foregrounds": ["f.png"]}\n\n' + line + "\n")
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(file)
    assert "m.jsonl, line 3" in str(caught.value)


def test_missing_and_empty_manifests_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no samples"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_scene_is_scaled_and_cropped_alike_in_all_layers(tmp_path) -> None:
    sample = write_sample(tmp_path, "a", size=(96, 48), foregrounds=2)
    whole, cropped = read_scene(sample, (48, 24)), read_scene(sample, (24, 24))
    for name in ("background", "composite"):
        assert getattr(whole, name).shape == (24, 48, 4)
        np.testing.assert_allclose(getattr(cropped, name), getattr(whole, name)[:, 12:36], atol=1 / 255)
    front, behind = cropped.foregrounds
    assert (front[front[..., 3] == 0] == 0).all()
    # The composite of the file and one composed from the layers agree up to rounding and scaling.
    composed = read_scene(dataclasses.replace(sample, composite=None), (24, 24)).composite
    np.testing.assert_allclose(composed, cropped.composite, atol=0.04)
    assert not np.allclose(front, behind)


def test_every_task_can_be_made_from_a_sample(tmp_path) -> None:
    scene = read_scene(write_sample(tmp_path, "a", foregrounds=2), (32, 32))
    for task in TASKS.values():
        example = make_example(scene, task, np.random.default_rng(0))
        task.check_images(len(example.inputs))
    assert scene.composite_caption == "thing 0 of a and thing 1 of a, behind a"


def test_a_sample_without_background_serves_matting_only(tmp_path) -> None:
    scene = read_scene(dataclasses.replace(write_sample(tmp_path, "a"), background=None), (32, 32))
    assert scene.composite_caption == "thing 0 of a, behind a"
    make_example(scene, TASKS["matting_trimap"], np.random.default_rng(0))
    with pytest.raises(InputError, match="needs the background"):
        make_example(scene, TASKS["removal_auto"], np.random.default_rng(0))


def test_a_cut_out_alone_is_shown_over_white(tmp_path) -> None:
    scene = read_scene(dataclasses.replace(write_sample(tmp_path, "a"), background=None, composite=None), (48, 32))
    front = scene.foregrounds[0]
    np.testing.assert_allclose(
        scene.composite[..., :3], front[..., :3] * front[..., 3:] + 1 - front[..., 3:], atol=1e-6
    )


def test_unusable_scenes_are_refused(tmp_path) -> None:
    sample = write_sample(tmp_path, "a")
    assert sample.background is not None
    Image.new("RGBA", (48, 32)).save(sample.background)
    with pytest.raises(ImageError, match="opaque"):
        read_scene(sample, (16, 16))
    Image.new("RGB", (16, 16)).save(sample.background)
    with pytest.raises(InputError, match="of one size"):
        read_scene(sample, (16, 16))


def test_lines_are_json_that_others_can_read(tmp_path) -> None:
    sample = write_sample(tmp_path, "ü", foregrounds=2)
    write_manifest([sample], tmp_path / "m.jsonl")
    record = json.loads((tmp_path / "m.jsonl").read_text(encoding="utf-8"))
    assert record["foregrounds"] == ["ü/front0.png", "ü/front1.png"]
    assert record["captions"] == ["thing 0 of ü", "thing 1 of ü"]


def test_object_and_stages_of_a_sample_are_kept_and_checked(tmp_path) -> None:
    sample = Sample(id="a", foregrounds=(tmp_path / "a.png",), identity="kite", stages={"edit": "abc", "score": "def"})
    write_manifest([sample], tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == [sample]
    assert len({sample, sample}) == 1
    (tmp_path / "m.jsonl").write_text('{"id": "a", "foregrounds": ["a.png"], "stages": {"edit": 3}}')
    with pytest.raises(InputError, match="stages: expected texts by name"):
        read_manifest(tmp_path / "m.jsonl")
