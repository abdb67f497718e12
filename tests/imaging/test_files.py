"""Opening with checks, and writing that survives errors and a kill."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from omnialpha.errors import ImageError, OutputError
from omnialpha.imaging.files import atomic_folder, atomic_write, explained, link, opened, remove_leftovers


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_written_file_is_complete_and_nothing_else_remains(tmp_path: Path) -> None:
    final = tmp_path / "new" / "folder" / "picture.png"
    with atomic_write(final) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"all of it")
        assert not final.exists()
    assert final.read_bytes() == b"all of it"
    assert _names(final.parent) == ["picture.png"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with atomic_write(tmp_path / "atomic") as temporary:
        temporary.write_bytes(b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "picture.png"
    final.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(final, overwrite=True) as temporary:
        temporary.write_text(["half"])  # type: ignore[arg-type]
    assert final.read_bytes() == b"old"
    assert _names(tmp_path) == ["picture.png"]


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    final = tmp_path / "picture.png"
    final.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"picture.png: exists already; .*overwrite=True"), atomic_write(final):
        pytest.fail("the block must not run")
    with atomic_write(final, overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert final.read_bytes() == b"new"


@pytest.mark.parametrize("target", ["folder", os.devnull])
def test_a_folder_or_device_is_never_replaced(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="give a file name"), atomic_write(tmp_path / target, overwrite=True):
        pytest.fail("the block must not run")


def test_an_impossible_place_is_reported_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    picture = tmp_path / "file" / "picture.png"
    with pytest.raises(OutputError, match=r"picture.png: cannot be written \(.*\); "), atomic_write(picture):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="cannot be written"), atomic_write(tmp_path / ("x" * 300)) as temporary:
        temporary.write_bytes(b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_with_its_name(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    with pytest.raises(OutputError, match=r"picture.png: cannot be written \(No space left"), atomic_write(picture):
        Path("/dev/full").write_bytes(b"x")


def test_a_folder_appears_complete_and_replaces_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "layers"
    for content in ("old", "new"):
        with atomic_folder(final) as temporary:
            (temporary / content).mkdir()
            (temporary / content / "deep").write_text(content)
            assert not (final / content).exists()
        assert _names(final) == [content]
        assert _names(tmp_path) == ["layers"]
    with pytest.raises(TypeError), atomic_folder(final) as temporary:
        (temporary / "half").write_text(["x"])  # type: ignore[arg-type]
    assert _names(final) == ["new"]
    assert _names(tmp_path) == ["layers"]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final = tmp_path / "layers"
    with atomic_folder(final) as temporary:
        (temporary / "old").write_text("")
    rename = Path.rename

    def refuse_the_final_name(source: Path, target: Path) -> Path:
        if target == final and (source / "new").exists():
            raise PermissionError(13, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse_the_final_name)
    with pytest.raises(OutputError, match="layers: .*Permission denied"), atomic_folder(final) as temporary:
        (temporary / "new").write_text("")
    assert _names(final) == ["old"]
    assert _names(tmp_path) == ["layers"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("writer", ["atomic_write", "atomic_folder"])
def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path: Path, writer: str) -> None:
    """A child writes old and then new content, and is killed in the middle of the new one."""
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        from pathlib import Path
        from omnialpha.imaging.files import {writer}
        def put(path, text):
            (path if "{writer}" == "atomic_write" else path / "file").write_text(text)
        final = Path(sys.argv[1])
        with {writer}(final) as temporary:
            put(temporary, "old")
        with {writer}(final, **({{"overwrite": True}} if "{writer}" == "atomic_write" else {{}})) as temporary:
            put(temporary, "half of the n")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    final = tmp_path / "result"
    child = subprocess.run([sys.executable, "-c", script, str(final)], env=_environment(), check=False)
    assert child.returncode == -signal.SIGKILL
    assert (final if writer == "atomic_write" else final / "file").read_text() == "old"
    (left,) = (name for name in _names(tmp_path) if name != "result")
    assert left.startswith(".omnialpha-")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_opening_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "missing.png": "no such file; check the path",
        "empty.png": r"is empty \(0 bytes\); ",
        "folder": "is a folder where a file was expected; ",
        "pipe": "is not a regular file; ",
        "x" * 300: r"cannot be opened \(File name too long\); ",
        "nul\0byte": "no such file",
    }.items():
        with pytest.raises(ImageError, match=reason) as caught, opened(tmp_path / name):
            pytest.fail("the block must not run")
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ImageError, match=r"cannot be opened \(Permission denied\)"), opened(tmp_path / "secret.png"):
        pytest.fail("the block must not run")


def test_errors_inside_become_one_line() -> None:
    with pytest.raises(ImageError, match=r"^a.png: cannot be read \(first\); it is damaged"), explained("a.png"):
        raise RuntimeError("first\nsecond")
    with pytest.raises(ImageError, match="^a.png: there is not enough memory"), explained("a.png"):
        raise MemoryError
    with pytest.raises(OutputError, match="^as it was$"), explained("a.png"):
        raise OutputError("as it was")


def test_warnings_inside_are_logged_with_the_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "omnialpha"), explained("a.png"):
        warnings.warn("odd chunk", stacklevel=1)
    assert caplog.messages == ["a.png: odd chunk"]


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_replaces_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "file").write_bytes(b"new")
    place = tmp_path / "folder" / "place"
    place.parent.mkdir()
    place.write_bytes(b"old")
    for _ in range(2):
        link(tmp_path / "file", place)
        assert place.read_bytes() == b"new"
        assert place.samefile(tmp_path / "file") == links
    assert _names(place.parent) == ["place"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        with atomic_folder(tmp_path / "deep" / "folder") as folder, atomic_write(folder / "inside.png") as inside:
            inside.write_bytes(b"half")
            with atomic_write(tmp_path / "file.png") as temporary:
                temporary.write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    (tmp_path / "deep" / "kept.png").write_bytes(b"whole")
    assert len(_names(tmp_path)) == 2
    remove_leftovers(tmp_path)
    assert _names(tmp_path) == ["deep"]
    assert _names(tmp_path / "deep") == ["kept.png"]
