"""A table of texts, drawn three ways: for a terminal, as Markdown, and as LaTeX with booktabs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_LATEX = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts under headings.

    Attributes:
        title: one line.
        groups: name and number of columns of each group of columns, after the first column; together all columns.
        columns: headings, the first one that of the rows' names.
        rows: as many texts each as there are columns.
        notes: the table's foot.
    """

    title: str
    groups: Sequence[tuple[str, int]] = ()
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())


def text(table: Table) -> str:
    """Draw a table for a terminal.

    >>> print(text(Table(title="T", columns=("Method", "SAD ↓"), rows=[("a", "1.5")], notes=["n"])))
    T
    Method  SAD ↓
    a         1.5
      n
    """
    lines = [*([_group_row(table)] if table.groups else []), list(table.columns), *map(list, table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    drawn = []
    for first, *rest in lines:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        drawn.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join([table.title, *(line.rstrip() for line in drawn), *(f"  {note}" for note in table.notes)])


def markdown(table: Table) -> str:
    r"""Draw a table as Markdown; groups become part of the headings.

    >>> print(markdown(Table(title="T", groups=[("G", 1)], columns=("Method", "SAD ↓"), rows=[("a|b", "1.5")])))
    **T**
    <BLANKLINE>
    | Method | G: SAD ↓ |
    | --- | ---: |
    | a\|b | 1.5 |
    """
    headings = list(table.columns)
    if table.groups:
        names = [name for name, count in table.groups for _ in range(count)]
        headings[1:] = [f"{name}: {heading}" for name, heading in zip(names, headings[1:], strict=True)]
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *table.rows]
    drawn = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    notes = ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n".join([f"**{table.title}**", "", *drawn, *notes])


def latex(table: Table) -> str:
    r"""Draw a table as LaTeX; needs the package booktabs.

    >>> print(latex(Table(title="T", groups=[("G", 1)], columns=("Method", "SAD ↓"), rows=[("a_b", "1.5")])))
    \begin{table}
    \caption{T}
    \begin{tabular}{lr}
    \toprule
     & \multicolumn{1}{c}{G} \\
    \cmidrule(lr){2-2}
    Method & SAD $\downarrow$ \\
    \midrule
    a\_b & 1.5 \\
    \bottomrule
    \end{tabular}
    \end{table}
    """
    lines = [r"\begin{table}", rf"\caption{{{_escaped(table.title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule"]
    if table.groups:
        cells = "".join(rf" & \multicolumn{{{count}}}{{c}}{{{_escaped(name)}}}" for name, count in table.groups)
        lines.append(f"{cells} \\\\")
        first = 2
        rules = []
        for _, count in table.groups:
            rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
            first += count
        lines.append(" ".join(rules))
    lines += [_latex_row(table.columns), r"\midrule", *map(_latex_row, table.rows), r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_escaped(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"])


def _group_row(table: Table) -> list[str]:
    return ["", *(cell for name, count in table.groups for cell in [name, *[""] * (count - 1)])]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
