"""Run the notebook tour.ipynb from top to bottom and keep what its cells show.

    python examples/build_tour.py

It needs no Jupyter: a cell is Python, and what its last line is worth is shown as a picture or as text, as in Jupyter.
"""

import ast
import base64
import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TOUR = Path(__file__).with_name("tour.ipynb")


def show(value: Any) -> dict[str, Any]:
    """What Jupyter would show of a value: pictures as PNG, beside the text."""
    data: dict[str, Any] = {"text/plain": repr(value)}
    if picture := getattr(value, "_repr_png_", lambda: None)():
        data = {"image/png": base64.b64encode(picture).decode() + "\n", "text/plain": f"<{type(value).__name__}>"}
    return data


def run_cell(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Run a cell.

    Args:
        source: Its code.
        names: The notebook's variables, changed in place.
        number: The count that Jupyter shows.

    Returns:
        Its outputs, in the notebook's format.
    """
    tree = ast.parse(source)
    end = tree.body[-1] if tree.body else None
    if isinstance(end, ast.Expr):
        tree.body.pop()
    printed = io.StringIO()
    outputs: list[dict[str, Any]] = []
    value = None
    with redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(end, ast.Expr):
            value = eval(compile(ast.Expression(end.value), f"cell {number}", "eval"), names)
    if printed.getvalue():
        outputs.append(
            {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
        )
    if value is not None:
        shown = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": show(value)}
        outputs.append(shown)
    return outputs


def execute(notebook: dict[str, Any]) -> None:
    """Run all code cells in order in the current folder and put their outputs into the notebook."""
    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        cell["outputs"] = run_cell("".join(cell["source"]), names, number)
        cell["execution_count"] = number


def main() -> None:
    """Run the tour in a scratch folder beside links to its pictures; rewrite it."""
    notebook = json.loads(TOUR.read_text(encoding="utf-8"))
    before = Path.cwd()
    with TemporaryDirectory() as folder:
        (Path(folder) / "images").symlink_to(TOUR.parent / "images")
        os.chdir(folder)
        try:
            execute(notebook)
        finally:
            os.chdir(before)
    TOUR.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
