"""What all layered formats share: nothing is lost, nothing is overwritten, nothing is half-written."""

import logging
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

from omnialpha import formats
from omnialpha.errors import ImageError, InputError, MissingExtraError, OutputError
from omnialpha.imaging.layers import Layer, LayerStack
from stacks import difference, noise, sample_stack

_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_READ = ["layers", "layers.psd", "layers.psb", "layers.ora", "layers.svg", "layers.exr", "layers.tiff"]
_WRITTEN = [*_READ, "flat.png", "flat.webp", "flat.avif", "slide.pptx", "preview.gif"]
EVERY_FORMAT = pytest.mark.parametrize("name", _READ)
EVERY_FORMAT_WRITTEN = pytest.mark.parametrize("name", _WRITTEN)


def _kept(stack: LayerStack, name: str) -> list[np.ndarray]:
    """Pixels of the layers as far as the format keeps them: premultiplied, EXR loses colours that nobody can see."""
    pixels = [np.array(layer.image) for layer in stack]
    if name.endswith("exr"):
        for array in pixels:
            array[array[..., 3] == 0] = 0
    return pixels


def _stack_for(name: str) -> LayerStack:
    """The sample; for TIFF, which has no places left of or above the canvas, moved inside."""
    stack = sample_stack()
    if name.endswith("tiff"):
        for layer in stack:
            layer.offset = (max(layer.offset[0], 0), max(layer.offset[1], 0))
    return stack


@EVERY_FORMAT
def test_write_read_flatten_gives_the_same_pixels(tmp_path: Path, name: str) -> None:
    stack = _stack_for(name)
    stack.metadata["dpi"] = [300.0, 150.0]
    stack.save(tmp_path / name)
    again = LayerStack.open(tmp_path / name)
    assert difference(again.flatten(), stack.flatten()) <= 1
    assert again.size == stack.size
    assert again.metadata == stack.metadata
    assert len(again) == len(stack)
    for read, written, before, after in zip(again, stack, _kept(stack, name), _kept(again, name), strict=True):
        assert (read.name, read.offset, read.visible) == (written.name, written.offset, written.visible)
        assert read.opacity == pytest.approx(written.opacity, abs=0.5 / 255)
        np.testing.assert_array_equal(after, before)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", [name for name in _READ if not name.endswith("tiff")])
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
    assert apart.max() <= (1 + len(stack) if name.endswith(("psd", "psb")) else 1)
    assert [layer.offset for layer in again] == [layer.offset for layer in stack]
    for number, (read, written) in enumerate(zip(again, stack, strict=True), start=1):
        kept = {  # as far as the formats can: 255 letters, and what XML can express
            "psd": written.name[:255] or f"Layer {number}",
            "xml": _NOT_XML.sub("", written.name) or f"Layer {number}",
        }
        limit = {"psd": "psd", "psb": "psd", "ora": "xml", "svg": "xml"}
        assert read.name == kept.get(limit.get(name[-3:], ""), written.name)


@EVERY_FORMAT_WRITTEN
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


@pytest.mark.parametrize("name", ["layers", "layers.psd", "layers.exr"])
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
    with pytest.raises(InputError, match='unknown format "pdf"; one of png, .*; did you mean "psd"'):
        formats.save(stack, tmp_path / "x", format="pdf")


def test_unknown_suffixes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'x.jpg: ".jpg" is not a format that is written; use .png, .psd, .*a folder'):
        sample_stack().save(tmp_path / "x.jpg")
    with pytest.raises(InputError, match=r'did you mean ".psd"'):
        sample_stack().save(tmp_path / "x.pds")
    with pytest.raises(ImageError, match="x.xcf: is not a layered file or a picture; give .png, .psd"):
        LayerStack.open(tmp_path / "x.xcf")


@pytest.mark.parametrize("name", ["slide.pptx", "preview.gif"])
def test_formats_that_are_written_only_say_so(tmp_path: Path, name: str) -> None:
    sample_stack().save(tmp_path / name)
    with pytest.raises(ImageError, match=f'{name}: ".*" is written only; open the file that it was made from'):
        LayerStack.open(tmp_path / name)


@pytest.mark.parametrize(("name", "module"), [("a.tiff", "tifffile"), ("a.exr", "OpenEXR"), ("a.pptx", "pptx")])
def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f'"{module}" is not installed; run: pip install "omnialpha.formats."'):
        sample_stack().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@EVERY_FORMAT_WRITTEN
def test_an_empty_stack_is_a_transparent_picture(tmp_path: Path, name: str) -> None:
    LayerStack([], (5, 4)).save(tmp_path / name)
    if name in _READ:
        again = LayerStack.open(tmp_path / name)
        assert again.size == (5, 4)
        assert again.flatten().getchannel("A").getextrema() == (0, 0)


@pytest.mark.parametrize("name", ["a.tiff", "a.exr"])
def test_more_than_eight_bits_survive_where_the_format_holds_them(tmp_path: Path, name: str) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (6, 5, 4), dtype=np.uint16)
    samples[..., 3] |= 0x8000  # a faint pixel's colour has fewer steps once it is premultiplied and divided again
    LayerStack([Layer.from_array(samples, "deep", opacity=0.5)]).save(tmp_path / name)
    (layer,) = LayerStack.open(tmp_path / name)
    assert layer.opacity == 0.5
    assert layer.deep is not None
    np.testing.assert_array_equal(np.rint(layer.array() * 65535), samples)


def test_rounding_to_eight_bits_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layer = Layer.from_array(np.full((2, 2, 4), 1000, np.uint16))
    with caplog.at_level(logging.INFO, "omnialpha"):
        LayerStack([layer]).save(tmp_path / "a.psd")
    assert "a.psd: holds 8 bits per channel" in caplog.text


@pytest.mark.parametrize("dpi", ["300", [300], [0, 300], [float("nan"), 300], 300])
def test_a_resolution_that_makes_no_sense_is_refused(tmp_path: Path, dpi: object) -> None:
    stack = LayerStack([], (5, 4), {"dpi": dpi})
    with pytest.raises(InputError, match=r'metadata\["dpi"\] is two numbers'):
        stack.save(tmp_path / "a.psd")
    assert list(tmp_path.iterdir()) == []


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
