"""What all layered formats share: nothing is lost, nothing is overwritten, nothing is half-written."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omnialpha import formats
from omnialpha.errors import ImageError, InputError, OutputError
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack

_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
EVERY_FORMAT = pytest.mark.parametrize("name", ["layers", "layers.psd", "layers.ora"])


@EVERY_FORMAT
def test_write_read_flatten_gives_the_same_pixels(tmp_path: Path, name: str) -> None:
    stack = sample_stack()
    stack.save(tmp_path / name)
    again = LayerStack.open(tmp_path / name)
    assert difference(again.flatten(), stack.flatten()) <= 1
    assert again.size == stack.size
    assert again.metadata == stack.metadata
    assert len(again) == len(stack)
    for read, written in zip(again, stack, strict=True):
        assert (read.name, read.offset, read.visible) == (written.name, written.offset, written.visible)
        assert read.opacity == pytest.approx(written.opacity, abs=0.5 / 255)
        np.testing.assert_array_equal(np.asarray(read.image), np.asarray(written.image))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@EVERY_FORMAT
@settings(deadline=None, max_examples=15)
@given(
    layers=st.lists(
        st.tuples(
            st.integers(1, 9), st.integers(1, 9), st.integers(-12, 12), st.integers(-12, 12), st.floats(0, 1),
            st.booleans(), st.text(max_size=300),
        ),
        min_size=1,
        max_size=4,
    ),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)  # fmt: skip
def test_any_stack_survives(tmp_path_factory: pytest.TempPathFactory, name: str, layers: list, size: tuple) -> None:
    path = tmp_path_factory.mktemp("any") / name
    stack = LayerStack(
        [
            Layer(noise(width, height, index), text, opacity, visible, (x, y))
            for index, (width, height, x, y, opacity, visible, text) in enumerate(layers)
        ],
        size,
    )
    stack.save(path)
    again = LayerStack.open(path)
    # PSD rounds opacities: half a step for every layer that lies above another.
    visible = (np.asarray(stack.flatten())[..., 3] > 8)[..., None]
    apart = np.abs(np.asarray(again.flatten()).astype(int) - np.asarray(stack.flatten())) * visible
    assert apart.max() <= (1 + len(stack) if name.endswith("psd") else 1)
    assert [layer.offset for layer in again] == [layer.offset for layer in stack]
    for number, (read, written) in enumerate(zip(again, stack, strict=True), start=1):
        kept = {
            "layers": written.name,
            "layers.psd": written.name[:255] or f"Layer {number}",  # as far as the formats can: 255 letters,
            "layers.ora": _NOT_XML.sub("", written.name) or f"Layer {number}",  # and what XML can express
        }
        assert read.name == kept[name]


@EVERY_FORMAT
def test_the_same_stack_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    for folder in ("first", "second"):
        sample_stack().save(tmp_path / folder / name)

    def content(folder: str) -> dict[str, bytes]:
        files = [path for path in (tmp_path / folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / folder)): path.read_bytes() for path in files}

    assert content("first") == content("second")


@EVERY_FORMAT
def test_overwriting_has_to_be_asked_for(tmp_path: Path, name: str) -> None:
    stack = sample_stack()
    stack.save(tmp_path / name)
    with pytest.raises(OutputError, match=f"{name}: .*choose another name or overwrite it"):
        stack[:1].save(tmp_path / name)
    assert len(LayerStack.open(tmp_path / name)) == 4
    stack[:1].save(tmp_path / name, overwrite=True)
    assert len(LayerStack.open(tmp_path / name)) == 1


@EVERY_FORMAT
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_kill_while_writing_leaves_the_old_file_whole(tmp_path: Path, name: str) -> None:
    """The child saves one layer, then is killed by the flush of the file that replaces it with four."""
    script = (
        "import os, signal, sys; from omnialpha.imaging import files; from stacks import sample_stack\n"
        "sample_stack()[:1].save(sys.argv[1])\n"
        "files._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sample_stack().save(sys.argv[1], overwrite=True)\n"
    )
    search = [str(Path(__file__).parents[1]), *(path for path in sys.path if path)]
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / name)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert len(LayerStack.open(tmp_path / name)) == 1
    assert len(list(tmp_path.iterdir())) == 2  # the other is the hidden, unfinished one


@EVERY_FORMAT
def test_unwritable_places_are_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=f"{name}: cannot be written"):
        sample_stack().save(tmp_path / "file" / name)


@EVERY_FORMAT
def test_missing_files_are_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match=f"{name}: no such"):
        LayerStack.open(tmp_path / name)


def test_a_format_may_be_given_by_name(tmp_path: Path) -> None:
    stack = sample_stack()
    formats.save(stack, tmp_path / "upper.PSD")
    formats.save(stack, tmp_path / "v1.2", format="png")
    assert len(formats.open(tmp_path / "upper.PSD")) == 4
    assert len(formats.open(tmp_path / "v1.2")) == 4
    with pytest.raises(InputError, match='unknown format "pdf"; one of png, psd, ora; did you mean "psd"'):
        formats.save(stack, tmp_path / "x", format="pdf")


def test_unknown_suffixes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'x.png: ".png" is not a layered format; use .psd, .ora or a folder'):
        sample_stack().save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r'did you mean ".psd"'):
        sample_stack().save(tmp_path / "x.pds")
    Image.new("RGB", (1, 1)).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match="x.png: is not a layered file"):
        LayerStack.open(tmp_path / "x.png")


@EVERY_FORMAT
def test_huge_canvases_and_piles_of_layers_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_stack().save(tmp_path / name)
    monkeypatch.setattr(formats._checks, "MAX_STACK_PIXELS", 31 * 23 + 100)
    with pytest.raises(ImageError, match=f"{name}: its layers have more than"):
        LayerStack.open(tmp_path / name)
    monkeypatch.setattr("omnialpha.imaging.decode.MAX_PIXELS", 100)
    with pytest.raises(ImageError, match=f"{name}.* has 31×23 pixels, more than"):
        LayerStack.open(tmp_path / name)
