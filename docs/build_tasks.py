"""Write docs/tasks.md and the README's table of tasks from the registry, `omnialpha.tasks.TASKS`.

Run it after a change to tasks.py: `make docs`. tests/test_packaging.py fails while the pages are out of date.
"""

from __future__ import annotations

from pathlib import Path

from omnialpha.tasks import SEVERAL, TASKS, Task

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- tasks: written by docs/build_tasks.py -->", "<!-- end of tasks -->"
CATEGORY_TITLES = {
    "text_to_image": "Text to image",
    "completion": "Layer-conditioned completion",
    "matting": "Image matting",
    "removal": "Object removal",
    "decomposition": "Layer decomposition",
}
INTRODUCTION = """\
# The 21 tasks

<!-- Written by docs/build_tasks.py (`make docs`): change src/omnialpha/tasks.py, not this page. -->

Every task of the paper's Table 1 is one record in `omnialpha.tasks.TASKS`. Pass the pictures in the order of the
column "Pictures in"; `…` stands for one or more. "Text" says what the caption has to describe; a task without it takes
none. Results are layers: the page lists them from front to back, a `LayerStack` holds them from back to front.

- `alpha`: how opaque the object is, as a grey picture: white is opaque.
- `trimap`: white where the object is, black where it is not, grey (128) where it is to be found out.
- `precise_mask`: white where the object is fully opaque.
- `rough_mask`: white in a region that holds the whole object and some of its surroundings.
"""


def _slots(slots: tuple[str, ...]) -> str:
    """Slot names for a table cell; `…` marks the one that takes any number."""
    return ", ".join(f"{slot.removesuffix('s')}…" if slot == SEVERAL else slot for slot in slots) or "–"


def _table(tasks: list[Task]) -> str:
    rows = ["| Task | Pictures in | Text | Layers out |", "| --- | --- | --- | --- |"]
    rows += [f"| `{t.id}` | {_slots(t.inputs)} | {t.text or '–'} | {_slots(t.targets)} |" for t in tasks]
    return "\n".join(rows)


def tasks_page() -> str:
    """The whole text of docs/tasks.md."""
    parts = [INTRODUCTION]
    for category, title in CATEGORY_TITLES.items():
        tasks = [entry for entry in TASKS.values() if entry.category == category]
        parts.append(f"## {title}\n\n{_table(tasks)}\n")
        parts += [_details(entry) for entry in tasks]
    return "\n".join(parts)


def _details(entry: Task) -> str:
    wordings = "\n".join(f"- {wording}" for wording in (entry.instruction, *entry.paraphrases))
    summary = f"<summary>Wordings of <code>{entry.id}</code>, the canonical one first</summary>"
    return f"<details>{summary}\n\n{wordings}\n\n</details>\n"


def readme_with_table(readme: str) -> str:
    """The README with the table between its two markers replaced by the current one."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{_table(list(TASKS.values()))}\n{END}{after}"


def main() -> None:
    """Write both pages."""
    readme = ROOT / "README.md"
    readme.write_text(readme_with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "tasks.md").write_text(tasks_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
