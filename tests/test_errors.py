"""The error tree: built-in families, messages shown as written, suggestions."""

import pickle

import pytest

from omnialpha import errors


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (errors.ImageError, ValueError),
        (errors.InputError, ValueError),
        (errors.CheckpointError, ValueError),
        (errors.OutputError, OSError),
        (errors.EndpointError, OSError),
        (errors.RefusedError, errors.EndpointError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_each_error_belongs_to_a_builtin_family(kind: type[errors.OmniAlphaError], family: type[Exception]) -> None:
    with pytest.raises(family, match="^expected a, received b; do c$") as caught:
        raise kind("expected a, received b; do c")
    assert isinstance(caught.value, errors.OmniAlphaError)
    # Batch workers send errors between processes.
    assert str(pickle.loads(pickle.dumps(caught.value))) == "expected a, received b; do c"


def test_nearest_keeps_the_spelling_of_the_known_name() -> None:
    assert errors.nearest("psd", ["PSD", "ora"]) == '; did you mean "PSD"?'


def test_nearest_is_silent_when_nothing_is_close_or_known() -> None:
    assert errors.nearest("zebra", ["matting_auto"]) == ""
    assert errors.nearest("zebra", []) == ""


def test_a_rejection_keeps_its_parts_between_processes() -> None:
    rejection = pickle.loads(pickle.dumps(errors.RejectedError("instruct", "no JSON")))
    assert isinstance(rejection, errors.RejectedError)
    assert (rejection.stage, rejection.reason, str(rejection)) == ("instruct", "no JSON", "instruct: no JSON")
