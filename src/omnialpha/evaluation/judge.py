"""The VLM judge of Table 3: each pair is judged twice with A and B exchanged; what the two orders disagree on is a tie.

The prompts are the paper's (`judge_prompts`). It does not say how the four items are attached: here they follow the
prompt in its own order, each under its number. Transparent conditions are shown over white.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import PIL
from PIL import Image

from omnialpha import __version__
from omnialpha.errors import InputError, RefusedError, nearest
from omnialpha.evaluation.chat import Message, Reply, Usage, user_message
from omnialpha.evaluation.endpoint import Endpoint
from omnialpha.evaluation.judge_prompts import PROMPTS
from omnialpha.evaluation.pairs import Pair, pairs_hash
from omnialpha.evaluation.preference import Outcome, Preference, combine
from omnialpha.imaging import rgba

_PROMPT_OF = {prompts.task: prompts.pred_prompt for prompts in PROMPTS.values()}
_ANSWERS = ("A", "B", "tie")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
_REMINDER = (
    "Your last reply was not the JSON object that was asked for. Respond ONLY with that object, with the two keys "
    '"better" ("A", "B" or "tie") and "reasoning" (a text), and with nothing before or after it.'
)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the judge made of a pair.

    Attributes:
        pair: The case.
        verdicts: Outcome for ours as A, then as B; None where no verdict could be read.
        replies: All replies, of the first order and then of the second.
        problem: Why a verdict is missing; empty when none is.
    """

    pair: Pair
    verdicts: tuple[Outcome | None, Outcome | None]
    replies: tuple[Reply, ...]
    problem: str = ""

    @property
    def outcome(self) -> Outcome | None:
        """The combined verdict; None where one of the orders has none."""
        first, second = self.verdicts
        return None if first is None or second is None else combine(first, second)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON, with the raw texts of all replies and the names of their files."""
        return {
            "id": self.pair.id,
            "task": self.pair.task,
            "outcome": self.outcome,
            "verdicts": list(self.verdicts),
            "replies": [{"text": reply.text, "file": reply.file} for reply in self.replies],
            "problem": self.problem,
        }


def check_task(pair: Pair) -> None:
    """Refuse a pair for which the paper has no prompt.

    Args:
        pair: The case.

    Raises:
        InputError: The task has no prompt, or the condition is missing.
    """
    if pair.task not in _PROMPT_OF:
        raise InputError(
            f'{pair.id}: the judge has no prompt for "{pair.task}"{nearest(pair.task, _PROMPT_OF)}; '
            f"it judges {' and '.join(_PROMPT_OF)}"
        )
    if pair.condition is None:
        raise InputError(f'{pair.id}: the judge compares with the condition; name its picture as "condition"')


def judge(pairs: Sequence[Pair], endpoint: Endpoint, workers: int = 4) -> Iterator[Judgement]:
    """Judge pairs, several at once, as fast as the service allows.

    Args:
        pairs: The cases.
        endpoint: Who judges.
        workers: Pairs judged at a time.

    Yields:
        Judgements in the order in which they are ready; a pair that the service refuses has no verdicts, and says why.

    Raises:
        InputError: A pair cannot be judged; found before anything is asked.
        ImageError: A picture cannot be read.
        EndpointError: The service does not answer. What is judged so far is not lost: begin again, it goes on.
    """
    for pair in pairs:
        check_task(pair)
    for pair, result in endpoint.map(lambda pair: judge_pair(pair, endpoint), pairs, workers):
        if isinstance(result, RefusedError):
            yield Judgement(pair=pair, verdicts=(None, None), replies=(), problem=str(result))
        else:
            yield result


def judge_pair(pair: Pair, endpoint: Endpoint) -> Judgement:
    """Judge a pair in both orders; arguments and errors as for `judge`, and RefusedError."""
    assert pair.condition is not None  # see check_task
    condition = rgba.read(pair.condition)
    ours, theirs = (rgba.read(file) for file in pair.candidates.values())
    prompt = _PROMPT_OF[pair.task]
    first, first_replies, first_problem = _ask(question(prompt, condition, pair.text, ours, theirs), endpoint)
    second, second_replies, second_problem = _ask(question(prompt, condition, pair.text, theirs, ours), endpoint)
    problems = [f"{order}: {problem}" for order, problem in (("AB", first_problem), ("BA", second_problem)) if problem]
    return Judgement(
        pair=pair,
        verdicts=(_outcome(first, ours="A"), _outcome(second, ours="B")),
        replies=(*first_replies, *second_replies),
        problem="; ".join(problems),
    )


def question(prompt: str, condition: Image.Image, text: str, a: Image.Image, b: Image.Image) -> Message:
    """The message to the judge: the prompt, then its four items under their numbers."""
    return user_message(prompt, "1.", condition, f"2. {text}", "3. Method A:", a, "4. Method B:", b)


def read_verdict(text: str) -> str:
    """Read the judge's reply strictly.

    Args:
        text: The reply: a JSON object with exactly the keys "better" and "reasoning". A Markdown fence around it, which
            some models cannot help, is allowed; anything else before or after it is not.

    Returns:
        "A", "B" or "tie".

    Raises:
        InputError: The reply is anything else.

    >>> read_verdict('{"better": "A", "reasoning": "sharper"}')
    'A'
    """
    text = text.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        items = json.loads(fenced[1] if fenced else text, object_pairs_hook=list)  # a list, so that doubled keys show
        record = dict(items)
    except (ValueError, TypeError) as error:
        raise InputError("the reply is no JSON object; ask again") from error
    if sorted(name for name, _ in items) != ["better", "reasoning"] or not isinstance(record["reasoning"], str):
        raise InputError('the reply has other keys than "better" and "reasoning", or no text as reasoning; ask again')
    if record["better"] not in _ANSWERS:
        raise InputError(f'"better" is {record["better"]!r}, not "A", "B" or "tie"; ask again')
    return str(record["better"])


def summarise(judgements: Iterable[Judgement]) -> dict[str, Preference]:
    """Count outcomes by task.

    Args:
        judgements: Of any tasks.

    Returns:
        Task id to counts; tasks in the order of their names.
    """
    outcomes: dict[str, list[Outcome | None]] = {}
    for judgement in judgements:
        outcomes.setdefault(judgement.pair.task, []).append(judgement.outcome)
    return {task: Preference.count(outcomes[task]) for task in sorted(outcomes)}


def results(pairs: Sequence[Pair], judgements: Iterable[Judgement], endpoint: Endpoint) -> dict[str, Any]:
    """Everything about a finished judgement, as JSON.

    Args:
        pairs: The cases.
        judgements: Of all of them.
        endpoint: Who judged.

    Returns:
        Settings, versions and hashes, counts and rates by task, tokens and cost of all replies and of those paid in
        this run, and the cases in the order of ``pairs``.
    """
    of_pair = {judgement.pair.id: judgement for judgement in judgements}
    # Equal candidates make equal requests, which are paid once.
    replies = {reply.file: reply.usage for each in of_pair.values() for reply in each.replies}
    prompts = {task: hashlib.sha256(prompt.encode()).hexdigest()[:16] for task, prompt in _PROMPT_OF.items()}
    usage = {"all": sum(replies.values(), Usage()), "this_run": endpoint.paid}
    return {
        "methods": list(pairs[0].candidates),
        "endpoint": asdict(endpoint.settings),
        "protocol": "both orders; their disagreement is a tie; wins are those of the first method",
        "prompt_hashes": prompts,
        "pairs_hash": pairs_hash(pairs),
        "versions": {"omnialpha": __version__, "pillow": PIL.__version__},
        "tasks": {task: preference.to_dict() for task, preference in summarise(of_pair.values()).items()},
        "usage": {name: {**asdict(part), "cost": endpoint.settings.cost(part)} for name, part in usage.items()},
        "cases": [of_pair[pair.id].to_dict() for pair in pairs],
    }


def _ask(message: Message, endpoint: Endpoint) -> tuple[str | None, list[Reply], str]:
    """Verdict or None, the replies, and why there is no verdict; a reply that cannot be read is asked for once more."""
    replies = [endpoint.ask([message])]
    try:
        return read_verdict(replies[0].text), replies, ""
    except InputError:
        # The model sees what it wrote, or at temperature 0 it would write the same again.
        wrong = {"role": "assistant", "content": replies[0].text or "(nothing)"}
        replies.append(endpoint.ask([message, wrong, {"role": "user", "content": _REMINDER}]))
    try:
        return read_verdict(replies[1].text), replies, ""
    except InputError as error:
        return None, replies, str(error)


def _outcome(better: str | None, *, ours: str) -> Outcome | None:
    if better is None or better == "tie":
        return better  # type: ignore[return-value]
    return "win" if better == ours else "lose"
