"""The human study's web server: one page, its cases and pictures, and the votes. Nothing is loaded from elsewhere."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omnialpha.errors import InputError
from omnialpha.evaluation.pairs import Pair
from omnialpha.evaluation.study import Study
from omnialpha.extras import require

PAGE = Path(__file__).parent / "study_page"
"""Folder of the page's files."""

_SHOWN = (".png", ".jpg", ".jpeg", ".webp")  # what every browser shows
_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # pictures loaded ahead serve when offline


def check_pictures(pairs: Sequence[Pair]) -> None:
    """Refuse pictures that browsers do not show.

    Args:
        pairs: The cases.

    Raises:
        InputError: A file has another format.
    """
    for file in (file for pair in pairs for file in pair.files):
        if file.suffix.lower() not in _SHOWN:
            raise InputError(f"{file}: browsers show {', '.join(_SHOWN)} only; convert it first")


def application(study: Study, pairs: Sequence[Pair]) -> Any:
    """Make the web application.

    Args:
        study: Takes the votes.
        pairs: Its cases, in its order.

    Returns:
        An ASGI application: the page, `GET /api/cases`, `GET /api/pictures/…`, `POST /api/votes`.

    Raises:
        MissingExtraError: starlette is not installed.
    """
    routing = require("starlette.routing", extra="study")
    api = _Api(study, pairs)
    # Starlette runs plain functions in threads, so that a wait for the database or the disk keeps nobody else waiting.
    routes = [
        routing.Route("/api/cases", _explained(api.cases)),
        routing.Route("/api/pictures/{annotator}/{position:int}/{name}", _explained(api.picture)),
        routing.Route("/api/votes", api.votes, methods=["POST"]),
        routing.Mount("/", require("starlette.staticfiles", extra="study").StaticFiles(directory=PAGE, html=True)),
    ]
    return require("starlette.applications", extra="study").Starlette(routes=routes)


class _Api:
    """The answers to the page's requests."""

    def __init__(self, study: Study, pairs: Sequence[Pair]) -> None:
        self._study, self._pairs = study, pairs

    def cases(self, request: Any) -> Any:
        """All cases of an annotator, in their order."""
        turns = self._study.turns(request.query_params.get("annotator", ""))
        cases = []
        for turn in turns:
            pair = self._pairs[turn.position]
            cases.append(
                {
                    "position": turn.position,
                    "text": pair.text,
                    "condition": pair.condition is not None,
                    "choice": turn.choice,
                    "revision": turn.revision,
                }
            )
        return _json({"study": self._study.pairs_hash, "cases": cases})

    def picture(self, request: Any) -> Any:
        """A picture under a name that does not give the method away: A, B or condition."""
        annotator, position, name = (request.path_params[key] for key in ("annotator", "position", "name"))
        if annotator not in self._study.annotators() or position >= len(self._pairs):
            raise InputError("there is no such picture; load the page again")
        pair = self._pairs[position]
        ours, theirs = pair.candidates.values()
        shown = (ours, theirs) if self._study.ours_as(annotator, position) == "A" else (theirs, ours)
        file = {"A": shown[0], "B": shown[1], "condition": pair.condition}.get(name)
        if file is None:
            raise InputError("there is no such picture; load the page again")
        return require("starlette.responses", extra="study").FileResponse(file, headers=_FOR_EVER)

    async def votes(self, request: Any) -> Any:
        """Store votes; all of them are on disk when this answers with 200."""
        body = await request.body()
        concurrency = require("starlette.concurrency", extra="study")
        return await concurrency.run_in_threadpool(_explained(self._store), body)

    def _store(self, body: bytes) -> Any:
        try:
            record = json.loads(body)
            votes = [(vote["position"], vote["choice"], vote["revision"]) for vote in record["votes"]]
            annotator = record["annotator"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("these are no votes; load the page again") from error
        for position, choice, revision in votes:
            self._study.vote(annotator, position, choice, revision)
        return _json({"saved": len(votes)})


def _explained(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Turn wrong use into an answer whose text the page shows."""

    def explained(request: Any) -> Any:
        try:
            return answer(request)
        except InputError as error:
            return _json({"error": str(error)}, status_code=400)

    return explained


def _json(content: Any, status_code: int = 200) -> Any:
    headers = {"Cache-Control": "no-store"}
    return require("starlette.responses", extra="study").JSONResponse(content, status_code, headers)
