"""What the votes of a human study say: a majority per case, rates, agreement; as JSON and as CSV."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from omnialpha.evaluation.preference import OUTCOMES, Preference, fleiss_kappa, majority, preference_table
from omnialpha.evaluation.study import Study, Vote
from omnialpha.imaging.files import atomic_write


def results(study: Study) -> dict[str, Any]:
    """Evaluate the votes so far.

    Args:
        study: Of any progress.

    Returns:
        "tasks": per task the outcomes of its cases (majorities) with rates and Wilson intervals, and Fleiss' kappa over
        the cases on which everybody voted who took part in the study (None where that cannot be computed, with the
        number of these cases). "cases": per case its votes and majority. "annotators": votes of each.
    """
    votes, tasks = study.votes(), study.cases()
    of_case = {case: Preference.count(vote.outcome for vote in votes if vote.case == case) for case in tasks}
    active = sorted({vote.annotator for vote in votes})
    return {
        "methods": list(study.names),
        "pairs_hash": study.pairs_hash,
        "tasks": {task: _task_results(task, tasks, of_case, len(active)) for task in sorted(set(tasks.values()))},
        "cases": [
            {"case": case, "task": tasks[case], **_counts(preference), "majority": majority(preference)}
            for case, preference in of_case.items()
        ],
        "annotators": {code: sum(vote.annotator == code for vote in votes) for code in study.annotators()},
    }


def export(study: Study, folder: str | Path) -> str:
    """Write `votes.csv` (one line per vote), `cases.csv`, `results.json` and `table.md`, replacing older ones.

    Args:
        study: Of any progress.
        folder: Made when it does not exist.

    Returns:
        The table: the majorities as in Table 3, beside the paper's numbers, and Fleiss' kappa.

    Raises:
        OutputError: They cannot be written.
    """
    found = results(study)
    table = _table(found)
    files = {
        "votes.csv": _csv([field.name for field in fields(Vote)], map(asdict, study.votes())),
        "cases.csv": _csv(["case", "task", *OUTCOMES, "majority"], found["cases"]),
        "results.json": json.dumps(found, indent=1, ensure_ascii=False) + "\n",
        "table.md": table,
    }
    for name, text in files.items():
        with atomic_write(Path(folder) / name, overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    return table


def _task_results(
    task: str, tasks: Mapping[str, str], of_case: Mapping[str, Preference], active: int
) -> dict[str, Any]:
    counted = [of_case[case] for case in tasks if tasks[case] == task]
    complete = [[votes.win, votes.tie, votes.lose] for votes in counted if votes.total == active]
    kappa = fleiss_kappa(complete) if complete and active > 1 else math.nan
    return {
        **Preference.count(map(majority, counted)).to_dict(),
        "fleiss_kappa": None if math.isnan(kappa) else kappa,
        "cases_with_all_votes": len(complete) if active else 0,
    }


def _counts(preference: Preference) -> dict[str, int]:
    return {outcome: getattr(preference, outcome) for outcome in OUTCOMES}


def _table(found: Mapping[str, Any]) -> str:
    """The majorities in Markdown, and how well the annotators agree."""
    tasks: Mapping[str, Mapping[str, Any]] = found["tasks"]
    summary = {
        task: Preference(**{name: entry[name] for name in (*OUTCOMES, "missing")}) for task, entry in tasks.items()
    }
    text = preference_table(summary, found["methods"], "human")
    for task, entry in tasks.items():
        kappa = "not defined" if entry["fleiss_kappa"] is None else f"{entry['fleiss_kappa']:.3f}"
        text += f"\nFleiss' kappa of {task}: {kappa} ({entry['cases_with_all_votes']} cases with all votes).\n"
    return text


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
