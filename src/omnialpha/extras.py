"""Import an optional dependency, or say which extra of the package brings it."""

import importlib
from types import ModuleType

from omnialpha.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, which the extra ``extra`` of the package installs.

    Args:
        module: Dotted name of the module.
        extra: Name of the extra in ``pyproject.toml``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The module is not installed; the message is the pip command to run.

    >>> require("json", extra="web").dumps([1])
    '[1]'
    >>> require("no_such_module", extra="web")
    Traceback (most recent call last):
        ...
    omnialpha.errors.MissingExtraError: "no_such_module" is not installed; run: pip install "omnialpha[web]"
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # An installed module that misses something of its own is broken, which no extra of ours would mend.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(
            f'"{module}" is not installed; run: pip install "omnialpha[{extra}]"', name=error.name
        ) from error
