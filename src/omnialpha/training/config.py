"""Changing single settings by name: what ``--set key=value`` does to the record that a recipe returns."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from omnialpha.errors import InputError, nearest

Config = TypeVar("Config")


def override(config: Config, changes: Mapping[str, str]) -> Config:
    """Change fields of a record by name.

    Args:
        config: a recipe's record.
        changes: field name to value: text as it is, other values as JSON ("3", "1e-4", "true", "[1, 2]").

    Returns:
        The changed record.

    Raises:
        InputError: a field does not exist (the nearest name is suggested) or its value has another type.
    """
    old = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    parsed: dict[str, Any] = {}
    for name, text in changes.items():
        if name not in old:
            raise InputError(f"unknown setting {name!r}{nearest(name, old)}; settings: {', '.join(old)}.")
        parsed[name] = _parse(name, text, old[name])
    return dataclasses.replace(config, **parsed)  # type: ignore[type-var]


def parse_changes(changes: list[str]) -> dict[str, str]:
    """Split ``key=value`` words.

    >>> parse_changes(["steps=10"])
    {'steps': '10'}
    """
    for change in changes:
        if "=" not in change:
            raise InputError(f"--set takes key=value, received {change!r}.")
    return dict(change.split("=", 1) for change in changes)


def check_choices(config: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a record in which a setting that is a word says something unknown.

    Raises:
        InputError: naming the setting, the words it may say, and the nearest of them.
    """
    for name, known in choices.items():
        if (value := getattr(config, name)) not in known:
            raise InputError(f"setting {name}: expected one of {known}, received {value!r}{nearest(value, known)}.")


def check_counts(config: Any, names: Iterable[str], *, least: int = 1) -> None:
    """Refuse a record in which one of these settings is below `least`.

    Raises:
        InputError: naming the setting.
    """
    for name in names:
        if (value := getattr(config, name)) < least:
            raise InputError(f"setting {name}: expected {least} or more, received {value}.")


def _parse(name: str, text: str, old: Any) -> Any:
    """A value of the kind that the field holds now."""
    if isinstance(old, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    # bool is a kind of int in Python, so kinds are compared exactly; a float may be written as "1".
    if isinstance(old, float) and type(value) is int:
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list) and all(type(item) in (int, float) for item in value):
        return tuple(value)
    if type(value) is not type(old):
        shown = json.dumps(list(old) if isinstance(old, tuple) else old)
        raise InputError(f"setting {name}: expected {type(old).__name__} like {shown}, received {text!r}.")
    return value
