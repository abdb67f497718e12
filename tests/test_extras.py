"""Optional dependencies: the pip command when one is absent, the true error when one is broken."""

import sys
from pathlib import Path

import pytest

from omnialpha.errors import MissingExtraError
from omnialpha.extras import require


def test_require_returns_the_module() -> None:
    assert require("os.path", extra="web") is sys.modules["os.path"]


@pytest.mark.parametrize("module", ["omnialpha_absent", "omnialpha_absent.inner", "json.omnialpha_absent"])
def test_a_missing_module_names_the_command(module: str) -> None:
    with pytest.raises(MissingExtraError, match=r'run: pip install "omnialpha\[web\]"$'):
        require(module, extra="web")


def test_a_broken_module_is_not_reported_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "omnialpha_broken.py").write_text("import omnialpha_absent_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="omnialpha_absent_dependency") as caught:
        require("omnialpha_broken", extra="web")
    assert not isinstance(caught.value, MissingExtraError)
