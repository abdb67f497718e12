"""Options of a command from a TOML file: they take the place of the defaults, and the command line wins over them."""

from pathlib import Path

import typer

from omnialpha.errors import InputError, nearest


def use_config(context: typer.Context, file: Path | None) -> Path | None:
    """Read a file of options: the callback of an option ``--config``, which has to be eager.

    Keys are the names of the command's options without their dashes (``keep-best = 1000``); whatever an option takes
    on the command line it takes there.

    Args:
        context: Of the command.
        file: TOML, or None.

    Returns:
        The file.

    Raises:
        InputError: It cannot be read, or an option is unknown.

    Example of a declaration: ``config: Annotated[Path | None, typer.Option("--config", callback=use_config,
    is_eager=True)] = None``.
    """
    if file is None:
        return None
    import tomllib  # here and elsewhere in the commands: what --help does not need, it does not wait for

    names = {
        option.lstrip("-"): parameter.name
        for parameter in context.command.params
        for option in parameter.opts
        if option.startswith("--") and option not in ("--config", "--help")
    }
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{file}: cannot be read as TOML ({error}); correct it") from error
    for key in values:
        if key not in names:
            raise InputError(
                f'{file}: unknown option "{key}"{nearest(key, names)}; options: {", ".join(sorted(names))}'
            )
    context.default_map = {**(context.default_map or {}), **{names[key]: value for key, value in values.items()}}
    return file
