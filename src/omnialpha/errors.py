"""Every error the library raises on purpose, in one small tree.

    OmniAlphaError
    ├── ImageError         (ValueError)   a picture or a layered file that cannot be used
    ├── InputError         (ValueError)   a call that cannot be carried out as written
    ├── RejectedError      (ValueError)   a sample of a data set that cannot be used; others can
    ├── CheckpointError    (ValueError)   weights that are missing or do not fit
    ├── OutputError        (OSError)      a result that cannot be written
    ├── EndpointError      (OSError)      a remote model that does not answer
    │   └── RefusedError                  … that refuses one request, while others may succeed
    └── MissingExtraError  (ImportError)  an optional dependency that is not installed

Each class also belongs to the built-in family that fits it, so ``except ValueError`` works as usual.
A message is one line: what was expected, what was received, what to do instead.
"""

import difflib
from collections.abc import Iterable


class OmniAlphaError(Exception):
    """Base of all errors raised on purpose; an application may show its message as it is."""

    def __str__(self) -> str:
        # OSError and ImportError format their arguments in their own ways: show the message and nothing else.
        return str(self.args[0]) if self.args else ""


class ImageError(OmniAlphaError, ValueError):
    """An image or a layered file is missing, unreadable, too large or of the wrong kind."""


class InputError(OmniAlphaError, ValueError):
    """Wrong use: an unknown task, model or option, a wrong number or size of images, a text missing."""


class RejectedError(OmniAlphaError, ValueError):
    """A stage of the data pipeline cannot use this sample; the run goes on without it.

    Args:
        stage: Name of the stage.
        reason: What is wrong with the sample.

    >>> str(RejectedError("instruct", "no JSON in three replies"))
    'instruct: no JSON in three replies'
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)  # both, so that the error survives pickling
        self.stage, self.reason = stage, reason

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


class CheckpointError(OmniAlphaError, ValueError):
    """Weights are missing or do not fit the model."""


class OutputError(OmniAlphaError, OSError):
    """A result cannot be written."""


class EndpointError(OmniAlphaError, OSError):
    """A remote model does not answer: wrong address or key, budget spent, or failing again and again."""


class RefusedError(EndpointError):
    """A remote model refuses this one request; others may succeed."""


class MissingExtraError(OmniAlphaError, ImportError):
    """An optional dependency is not installed."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Suggest the known name closest to a mistyped one.

    Args:
        name: What the user wrote.
        names: What would have been understood.

    Returns:
        Text to append to an error message, empty when nothing is close.

    >>> nearest("matting_atuo", ["matting_auto", "removal_auto"])
    '; did you mean "matting_auto"?'
    >>> nearest("xyz", ["matting_auto", "removal_auto"])
    ''
    """
    known = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f'; did you mean "{known[close[0]]}"?' if close else ""
