"""Tables and the page of a run, read back: every number from a place of its own, every image there and in order."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trees
from omnialpha.evaluation.harness import evaluate
from omnialpha.evaluation.page import write_page
from omnialpha.evaluation.plan import Plan, Source
from omnialpha.evaluation.report import tables, write_tables
from omnialpha.evaluation.results import Results, collect
from omnialpha.evaluation.tables import Table, text

NAMES = tuple(f"o_{number}" for number in range(5))


class Page(HTMLParser):
    """Articles in order, with the labels of their pictures; every address outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.articles: list[tuple[str, list[str]]] = []
        self.outside: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "article":
            self.articles.append((values["data-id"], []))
        if tag == "img":
            assert values["src"].startswith("data:image/jpeg;base64,/9j/")
            self.articles[-1][1].append(values["alt"])
        self.outside += [v for n, v in values.items() if n in ("src", "href") and not v.startswith(("data:", "#"))]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Results]:
    """AIM-500 with predictions that are worse the higher their number, the last one missing."""
    root = tmp_path_factory.mktemp("report")
    trees.make_aim500(root / "AIM-500", NAMES)
    for number, name in enumerate(NAMES[:-1]):
        trees.save(trees.soft_disk(number) * (1 - number / 8), root / f"theirs_100%/{name}.png")
    plan = Plan(benchmark="aim500", data=root / "AIM-500", source=Source(predictions=root / "theirs_100%"))
    evaluate(plan, root / "out")
    results = collect(plan, root / "out")
    write_tables(results, root / "out")
    return plan, root / "out", results


def test_markdown_has_the_run_beside_the_paper(ran: tuple[Plan, Path, Results]) -> None:
    plan, out, _ = ran
    page = (out / "table.md").read_text()
    errors = []
    for name in NAMES[:-1]:
        files = (plan.data / f"mask/{name}.png", Path(str(plan.source.predictions)) / f"{name}.png")
        truth, pred = (np.asarray(Image.open(file), np.float64) / 255 for file in files)
        errors.append(np.abs(pred - truth))
    sad, mad = np.mean([e.sum() / 1000 for e in errors]), np.mean([e.mean() for e in errors])
    (row,) = [line for line in page.splitlines() if line.startswith("| theirs_100%, this run")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (float(cells[1]), float(cells[3])) == (pytest.approx(sad, rel=1e-3), pytest.approx(mad, rel=1e-3))
    assert cells[6:] == ["–"] * 5  # no AlphaLayersTest in this run
    assert "| OmniAlpha | 7.796 | 0.0136 | 0.0046 | 13.53 | 7.882 | 6.177 | 0.0128 | 0.0023 | 8.552 | 6.199 |" in page
    assert "AIM-500: SAD ↓" in page
    assert "Table 5 of the paper" in page
    assert "4 of 5 cases scored, 1 failed and are in no mean" in page
    assert "FAILED matting_auto/o_4: the prediction is missing" in page
    assert "aim convention over the whole image" in page


def test_latex_is_balanced_and_escaped(ran: tuple[Plan, Path, Results]) -> None:
    source = (ran[1] / "table.tex").read_text()
    for begin, end in (
        (r"\begin{table}", r"\end{table}"),
        (r"\begin{tabular}", r"\end{tabular}"),
        (r"\toprule", r"\bottomrule"),
    ):
        assert source.count(begin) == source.count(end) == 2
    assert r"theirs\_100\%, this run &" in source
    assert not re.search(r"(?<!\\)[_%#]", source)
    rows = [line for line in source.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {row.count(" & ") for row in rows} == {7, 10}  # the run's own table, and Table 5


def test_page_has_every_image_from_worst_to_best(ran: tuple[Plan, Path, Results]) -> None:
    plan, out, results = ran
    file = write_page(results, plan, out)
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.outside == []
    values = {record["id"]: record["values"]["native"]["mad"] for record in results["images"] if "values" in record}
    assert [name for name, _ in page.articles] == ["o_4", *sorted(values, key=values.__getitem__, reverse=True)]
    assert page.articles[0][1] == ["input", "target"]
    assert all(labels == ["input", "target", "prediction", "error"] for _, labels in page.articles[1:])
    assert file.read_bytes().count(b"theirs_100%") >= 2
    first = file.read_bytes()
    write_page(results, plan, out)
    assert file.read_bytes() == first


def test_generation_size_gets_a_row_of_its_own(tmp_path: Path) -> None:
    trees.make_aim500(tmp_path / "AIM-500")
    for number, name in enumerate(("o_01", "o_02")):
        picture = Image.open(tmp_path / f"AIM-500/mask/{name}.png").resize((12 + 12 * number, 10 + 10 * number))
        (tmp_path / "p").mkdir(exist_ok=True)
        picture.save(tmp_path / f"p/{name}.png")
    plan = Plan(benchmark="aim500", data=tmp_path / "AIM-500", source=Source(predictions=tmp_path / "p"))
    evaluate(plan, tmp_path / "out")
    own, _ = tables(collect(plan, tmp_path / "out"))
    assert [row[1] for row in own.rows] == ["native 24×20", "generation 18×15"]
    assert own.rows[0][3:] != own.rows[1][3:]


def test_terminal_columns_line_up() -> None:
    table = Table(
        title="T", groups=[("G", 2)], columns=("Method", "a ↓", "b ↑"), rows=[("x", "1", "22"), ("yy", "333", "4")]
    )
    lines = text(table).splitlines()[2:]
    assert len({len(line) for line in lines}) == 1
