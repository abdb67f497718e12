"""The package as a whole: what it imports, what it declares, what the wheel holds, whether the pages are current."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "omnialpha").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def _python(code: str, *args: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    result = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("words", [["--help"], ["tasks"], ["matte", "--help"], ["train", "--help"]], ids=" ".join)
def test_the_command_line_answers_at_once(words: list[str]) -> None:
    """Of all that pyproject.toml names only Typer is imported (and pydantic, by Typer), also by `import omnialpha`."""
    code = """
import sys
from omnialpha.apps.cli import app
app(sys.argv[1:], standalone_mode=False)
print(*sys.modules)
"""
    distributions = packages_distributions()
    imported = {name.split(".")[0] for name in _python(code, *words).splitlines()[-1].split()}
    provided_by = {canonicalize_name(name) for module in imported for name in distributions.get(module, [])}
    assert "omnialpha" in imported
    assert provided_by & _declared(*PROJECT["optional-dependencies"]) <= {"typer", "pydantic"}


@pytest.mark.slow
def test_every_module_imports_without_torchvision() -> None:
    """Torchvision from PyPI does not even import beside CPU torch: nothing here, nor anything imported, may need it."""
    code = """
import importlib, sys
sys.modules["torchvision"] = None  # any import of it now raises ImportError
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in SOURCES]
    _python(code, *(name.removesuffix(".__init__") for name in names if not name.endswith("__main__")))


def _third_party_imports(path: Path) -> Iterator[str]:
    """Top-level names of the modules outside Python and this package that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
        for name in {name.split(".")[0] for name in names}:
            if name not in sys.stdlib_module_names and name != "omnialpha":
                yield name


def _declared(*extras: str) -> set[str]:
    """The distributions that the package depends on, with those of extras."""
    lines = [*PROJECT["dependencies"], *chain(*(PROJECT["optional-dependencies"][extra] for extra in extras))]
    names: set[str] = {canonicalize_name(Requirement(line).name) for line in lines}
    return names - {PROJECT["name"]}


def test_every_import_is_a_declared_dependency() -> None:
    declared = _declared(*(PROJECT["optional-dependencies"].keys() - {"dev"}))
    assert "torchvision" not in declared
    distributions = packages_distributions()
    for path in SOURCES:
        for module in _third_party_imports(path):
            provided_by = {canonicalize_name(name) for name in distributions.get(module, [module])}
            assert provided_by & declared, f"{path.name} imports {module}, which pyproject.toml does not declare"


def test_constraints_pin_every_dependency_exactly_and_within_its_range() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._]+", line) for line in CONSTRAINTS), "name==version only"
    pins: dict[str, str] = {canonicalize_name(pin[0]): pin[1] for pin in (line.split("==") for line in CONSTRAINTS)}
    assert pins["torch"] == "2.13.0"
    assert "torchvision" not in pins
    for requirement in map(Requirement, [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]):
        if requirement.name != PROJECT["name"]:  # an extra may contain another one
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_wheel_holds_code_checkpoint_and_licence() -> None:
    """An editable installation finds files that a wheel may leave out: ask the build backend for its list."""
    from hatchling.builders.wheel import WheelBuilder

    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    package = (ROOT / "src" / "omnialpha").rglob("*")  # code, weights, pages, tables
    needed = [path for path in package if path.is_file() and "__pycache__" not in path.parts]
    assert files >= {path.relative_to(ROOT / "src").as_posix() for path in needed}


def test_imports_point_downwards() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def _build_tasks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_tasks", ROOT / "docs" / "build_tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    """`make docs` brings them up to date."""
    build = _build_tasks()
    assert (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8") == build.tasks_page()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == build.readme_with_table(readme)
