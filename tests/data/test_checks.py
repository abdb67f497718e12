"""Broken files: all of them are found before training, each with its reason."""

import pytest
from PIL import Image

from layered import write_sample
from omnialpha.data.checks import check_files, usable
from omnialpha.errors import InputError


def test_every_broken_file_is_listed_at_once(tmp_path) -> None:
    good, missing, torn, small, clear = (
        write_sample(tmp_path, name) for name in ("good", "missing", "torn", "small", "clear")
    )
    assert missing.composite is not None
    assert clear.background is not None
    missing.composite.unlink()
    torn.foregrounds[0].write_bytes(torn.foregrounds[0].read_bytes()[:-60])
    Image.new("RGB", (8, 8)).save(small.files[-1])
    Image.new("RGBA", (48, 32)).save(clear.background)
    problems = check_files([good, missing, torn, small, clear])
    assert [problem.split(":")[0] for problem in problems] == ["missing", "torn", "small", "clear"]
    for problem, words in zip(problems, ("no such file", "cannot be read", "8×8", "opaque"), strict=True):
        assert words in problem


def test_broken_samples_are_refused_with_the_whole_list_or_skipped_with_a_count(tmp_path, caplog) -> None:
    good, *broken = (write_sample(tmp_path, name) for name in ("good", "torn", "gone"))
    for sample in broken:
        sample.foregrounds[0].unlink()
    with pytest.raises(InputError, match="2 of 3 samples are broken") as caught:
        usable([good, *broken], skip_broken=False)
    assert all(f"{sample.id}: {sample.foregrounds[0]}" in str(caught.value) for sample in broken)
    assert usable([good, *broken], skip_broken=True) == [good]
    assert "2 of 3 samples are broken and skipped" in caplog.text
    with pytest.raises(InputError, match="nothing to train on"):
        usable(broken, skip_broken=True)
