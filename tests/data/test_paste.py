"""Two folders become a manifest whose layers compose to its composites, test pictures kept apart."""

import numpy as np
import pytest
from PIL import Image

import tiny
from omnialpha.data.manifest import read_manifest, read_scene
from omnialpha.data.paste import paste_scenes
from omnialpha.data.scenes import composite_over
from omnialpha.errors import ImageError, InputError


@pytest.fixture
def folders(tmp_path):
    for name, count in (("cutouts", 10), ("photos", 11)):
        (tmp_path / name).mkdir()
        for k in range(count):
            image = tiny.picture(seed=k, size=(40, 30))
            if name == "cutouts":
                image.putalpha(Image.radial_gradient("L").resize(image.size).point(lambda v: 255 - v))
            image.save(tmp_path / name / f"my-{name}_{k}.png")
    (tmp_path / "cutouts" / "my-cutouts_3.txt").write_text("a red\nkite\n")
    return tmp_path


def test_samples_are_whole_scenes_and_the_test_split_shares_no_picture(folders) -> None:
    file = paste_scenes(folders / "cutouts", folders / "photos", folders / "out", scenes=20, size=32, most=2, seed=1)
    samples = read_manifest(file)
    assert [sample.split for sample in samples] == (["test"] + ["train"] * 9) * 2
    assert {len(sample.foregrounds) for sample in samples} == {1, 2}
    captions: dict[str, set[str]] = {sample.split: set() for sample in samples}
    for sample in samples:
        captions[sample.split] |= set(sample.captions)
        scene = read_scene(sample, (32, 32))
        composite = scene.background
        assert composite is not None
        for layer in reversed(scene.foregrounds):
            composite = composite_over(layer, composite)
        np.testing.assert_allclose(composite, scene.composite, atol=2 / 255)
    assert "a red kite" in captions["train"]
    assert captions["test"] == {"my cutouts"}
    again = paste_scenes(folders / "cutouts", folders / "photos", folders / "again", scenes=20, size=32, seed=1)
    assert again.read_text() == file.read_text()


def test_what_is_no_cutout_is_refused(folders) -> None:
    with pytest.raises(ImageError, match="no transparent pixels"):
        paste_scenes(folders / "photos", folders / "photos", folders / "out", scenes=1, size=32)
    with pytest.raises(InputError, match="holds no pictures"):
        paste_scenes(folders / "out", folders / "photos", folders / "out", scenes=1, size=32)
