"""The human study: who votes on what, every vote in a database, and what the votes say in the end.

A study is a folder with `votes.sqlite`, an SQLite database with a write-ahead log and full synchronisation: a vote that
was acknowledged survives a crash of the process or of the machine. Each annotator has a code, an order of cases and
sides of their own, all of them functions of the study's seed, so that nothing has to be remembered between requests.
"""

import hashlib
import random
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from omnialpha.errors import InputError
from omnialpha.evaluation.pairs import Pair, pairs_hash
from omnialpha.evaluation.preference import Outcome

Choice = Literal["A", "B", "tie"]
CHOICES: tuple[Choice, ...] = ("A", "B", "tie")

_FILE = "votes.sqlite"
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # nothing that looks like something else on paper
_CODE_LENGTH = 8
_PATIENCE = 30.0  # seconds to wait for another writer
_SCHEMA = """
CREATE TABLE study (pairs_hash TEXT NOT NULL, seed TEXT NOT NULL, ours TEXT NOT NULL, theirs TEXT NOT NULL);
CREATE TABLE cases (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL);
CREATE TABLE annotators (code TEXT PRIMARY KEY);
CREATE TABLE votes (
    annotator TEXT NOT NULL REFERENCES annotators,
    position INTEGER NOT NULL REFERENCES cases,
    outcome TEXT NOT NULL CHECK (outcome IN ('win', 'tie', 'lose')),
    ours_as TEXT NOT NULL CHECK (ours_as IN ('A', 'B')),
    revision INTEGER NOT NULL,
    voted_at TEXT NOT NULL,
    PRIMARY KEY (annotator, position)
);
"""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A vote as it is stored.

    Attributes:
        annotator: Code.
        case: Id of the case.
        task: Its task.
        outcome: For ours.
        ours_as: Where ours was shown, "A" or "B".
        voted_at: Time in UTC, ISO 8601.
    """

    annotator: str
    case: str
    task: str
    outcome: Outcome
    ours_as: str
    voted_at: str


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A case as one annotator meets it.

    Attributes:
        position: Of the case among the study's pairs.
        choice: What they chose so far; None if nothing.
        revision: How often they chose.
    """

    position: int
    choice: Choice | None
    revision: int


class Study:
    """An existing study. Its methods may be called from any number of threads and processes.

    Args:
        folder: Where `votes.sqlite` is.

    Attributes:
        names: Both methods, ours first.

    Raises:
        InputError: There is no study.
    """

    def __init__(self, folder: str | Path) -> None:
        self._file = Path(folder) / _FILE
        if not self._file.is_file():
            raise InputError(f"{self._file}: no such study; begin one with `omnialpha eval study DIR --out {folder}`")
        with self._database() as database:
            row = database.execute("SELECT pairs_hash, seed, ours, theirs FROM study").fetchone()
        self.pairs_hash, self._seed = row[:2]
        self.names: tuple[str, str] = row[2:]

    @classmethod
    def begin(cls, folder: str | Path, pairs: Sequence[Pair], annotators: int) -> "Study":
        """Begin a study, or go on with the one in the folder.

        Args:
            folder: Made when it does not exist.
            pairs: The cases.
            annotators: Codes there are to be; more than before adds some, fewer changes nothing.

        Returns:
            The study.

        Raises:
            InputError: The folder holds a study of other pairs.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = pairs_hash(pairs)
        with closing(sqlite3.connect(folder / _FILE, timeout=_PATIENCE, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")  # of two processes that begin at the same time, one waits
            if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(
                    "INSERT INTO study VALUES (?, ?, ?, ?)", (content, secrets.token_hex(8), *pairs[0].candidates)
                )
                rows = [(position, pair.id, pair.task) for position, pair in enumerate(pairs)]
                database.executemany("INSERT INTO cases VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")
        study = cls(folder)
        if study.pairs_hash != content:
            raise InputError(f"{folder}: holds a study of other pairs; choose another folder, or restore the pairs")
        study._invite(annotators)
        return study

    def annotators(self) -> list[str]:
        """All codes, in the order in which they were made."""
        with self._database() as database:
            return [code for (code,) in database.execute("SELECT code FROM annotators ORDER BY rowid")]

    def turns(self, annotator: str) -> list[Turn]:
        """The cases in an annotator's own order, with what they chose so far.

        Args:
            annotator: Code.

        Returns:
            A turn per case.

        Raises:
            InputError: Nobody has this code.
        """
        with self._database() as database:
            self._check(database, annotator)
            positions = [position for (position,) in database.execute("SELECT position FROM cases ORDER BY position")]
            query = "SELECT position, outcome, revision FROM votes WHERE annotator = ?"
            votes = {position: vote for position, *vote in database.execute(query, (annotator,))}
        random.Random(f"{self._seed} {annotator}").shuffle(positions)
        turns = []
        for position in positions:
            outcome, revision = votes.get(position, (None, 0))
            choice = None if outcome is None else self._choice(annotator, position, outcome)
            turns.append(Turn(position=position, choice=choice, revision=revision))
        return turns

    def ours_as(self, annotator: str, position: int) -> Literal["A", "B"]:
        """Where ours is shown to this annotator in this case: "A" or "B", with even chances."""
        digest = hashlib.sha256(f"{self._seed} {annotator} {position}".encode()).digest()
        return "A" if digest[0] % 2 else "B"

    def vote(self, annotator: str, position: int, choice: Choice, revision: int) -> None:
        """Store a vote; it is on disk when this returns.

        Storing it again changes nothing, so it may be sent as often as needed. An annotator who changes their mind
        votes again with a higher revision; votes that arrive late do not undo newer ones.

        Args:
            annotator: Code.
            position: Of the case.
            choice: What was better as it was shown.
            revision: 1 for the first vote on this case, 2 for the next, …

        Raises:
            InputError: There is no such annotator or case, or the choice or the revision is impossible.
        """
        if choice not in CHOICES or not isinstance(revision, int) or revision < 1:
            raise InputError(
                f'the choice is "A", "B" or "tie" with a revision above 0, not {choice!r} with {revision!r}'
            )
        ours_as = self.ours_as(annotator, position)
        outcome = "tie" if choice == "tie" else "win" if choice == ours_as else "lose"
        with self._database() as database:
            self._check(database, annotator)
            if not database.execute("SELECT 1 FROM cases WHERE position = ?", (position,)).fetchone():
                raise InputError(f"there is no case {position!r}; load the page again")
            database.execute(
                "INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET outcome = excluded.outcome,"
                " revision = excluded.revision, voted_at = excluded.voted_at WHERE excluded.revision > revision",
                (annotator, position, outcome, ours_as, revision, datetime.now(UTC).isoformat(timespec="milliseconds")),
            )

    def votes(self) -> list[Vote]:
        """All votes, by case and then in the order in which annotators were invited."""
        query = (
            "SELECT votes.annotator, cases.id, cases.task, outcome, ours_as, voted_at FROM votes"
            " JOIN cases USING (position) JOIN annotators ON annotators.code = votes.annotator"
            " ORDER BY position, annotators.rowid"
        )
        names = ("annotator", "case", "task", "outcome", "ours_as", "voted_at")
        with self._database() as database:
            return [Vote(**dict(zip(names, row, strict=True))) for row in database.execute(query)]

    def cases(self) -> dict[str, str]:
        """Id of each case to its task, in order."""
        with self._database() as database:
            return dict(database.execute("SELECT id, task FROM cases ORDER BY position").fetchall())

    def _invite(self, number: int) -> None:
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            (present,) = database.execute("SELECT count(*) FROM annotators").fetchone()
            for _ in range(number - present):
                code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
                database.execute("INSERT INTO annotators VALUES (?)", (code,))

    def _choice(self, annotator: str, position: int, outcome: Outcome) -> Choice:
        """An outcome as the annotator sees it."""
        ours = self.ours_as(annotator, position)
        theirs: Choice = "B" if ours == "A" else "A"
        choices: dict[Outcome, Choice] = {"win": ours, "tie": "tie", "lose": theirs}
        return choices[outcome]

    def _check(self, database: sqlite3.Connection, annotator: str) -> None:
        if not database.execute("SELECT 1 FROM annotators WHERE code = ?", (annotator,)).fetchone():
            raise InputError(f'nobody has the code "{annotator}"; check it, or ask whoever sent it to you')

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A connection for one call (connections do not go from thread to thread), committed at the end."""
        with closing(sqlite3.connect(self._file, timeout=_PATIENCE)) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA foreign_keys = ON")
            with database:
                yield database
