"""Gives a command every option of the settings, from their one declaration."""

import inspect
from collections.abc import Callable, Container
from functools import wraps
from pathlib import Path, PosixPath
from typing import Annotated, Any

import typer

from hidream_server.settings import Option, Settings, load_settings, options

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="HIDREAM_CONFIG",
        help="TOML file with options by name, e.g. port = 8089",
    ),
]


#: The names of all options.
ALL = frozenset(option.name for option in options())
#: Of those that say where the task database is.
DATABASE = frozenset({"data_dir", "database_url"})

_METAVARS = {int: "N", float: "N", PosixPath: "PATH"}


def with_settings(command: Callable[..., None], only: Container[str] = ALL) -> Callable[..., None]:
    """Add options to a command whose first parameter is the settings they make."""
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in list(inspect.signature(command).parameters.values())[1:]
    ]
    parameters = [_parameter(option) for option in options() if option.name in only]
    config = inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config
    )
    names = {parameter.name for parameter in parameters}

    @wraps(command)
    def wrapper(**values: Any) -> None:
        flags = {name: values.pop(name) for name in list(values) if name in names}
        settings: Settings = load_settings(flags, values.pop("config"))
        command(settings, **values)

    signature = inspect.Signature([*parameters, config, *own])
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return wrapper


def _parameter(option: Option) -> inspect.Parameter:
    """Declare one option as text; the settings parse and check it, wherever it comes from.

    One that is only on or off is on when it is named.
    """
    kind = bool if option.default is False else str
    default = "" if option.default is None or kind is bool else f" (default {option.default})"
    declared = typer.Option(
        *option.flags,
        help=option.help + default,
        metavar=None if kind is bool else _METAVARS.get(type(option.default), "TEXT"),
        show_default=False,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, declared],
    )
