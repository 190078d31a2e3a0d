"""The page of the command line: every command with its usage, arguments and options."""

import inspect
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
from markdown_table import code, table

from alignstream.ops.cli import app

_HEAD: Final = """\
# Command line

Every command, as `alignstream COMMAND --help` prints it too. Commands read the [settings](settings.md) from the
environment and from `alignstream.toml`.

| exit code | meaning |
| --- | --- |
| 0 | Done. |
| 1 | It could not be done; the message says why, and what to do. |
| 2 | Wrong usage. |
| 3 | Done in part: some records were refused, or a check found a problem. |
| 130 | Interrupted. |
"""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (below)
    """Yield every command with the words that call it, groups before their members.

    Typer carries a copy of click: what a command is, it says by what it has, not by its class.
    """
    words = (*path, command.name or "")
    yield " ".join(words), command
    for member in getattr(command, "commands", {}).values():
        yield from commands(member, words)


def render() -> str:
    """Return the page."""
    root = typer.main.get_command(app)
    root.name = "alignstream"
    found = list(commands(root))
    lines = [_HEAD, "## Overview", ""]
    lines += table(
        ("command", "what it does"),
        (
            (f"[`{name}`](#{_anchor(name)})", _first_sentence(command))
            for name, command in found[1:]
            if not hasattr(command, "commands")
        ),
    )
    for name, command in found[1:]:
        level = "##" if len(name.split()) == 2 else "###"
        lines += [f"{level} {name} {{ #{_anchor(name)} }}", "", *_section(name, command)]
    return "\n".join(lines)


def _anchor(name: str) -> str:
    return "-".join(name.split())


def _help(command: Any) -> str:  # noqa: ANN401 (a command of click)
    return inspect.cleandoc(command.help or "").strip()


def _first_sentence(command: Any) -> str:  # noqa: ANN401 (likewise)
    return _help(command).partition("\n\n")[0]


def _section(name: str, command: Any) -> Iterator[str]:  # noqa: ANN401 (likewise)
    yield from (_help(command), "")
    if hasattr(command, "commands") and not any(item.name != "help" for item in command.params):
        return
    context = command.context_class(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from ("```text", f"{name} {usage}", "```", "")
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option" and not item.hidden]
    yield from table(
        ("argument", "values", "meaning"),
        (
            (code(item.metavar or item.name.upper()), _values(item), getattr(item, "help", None) or "")
            for item in arguments
        ),
    )
    yield from table(
        ("option", "values", "default", "meaning"),
        (
            (_names(item), _values(item), _default(item), _meaning(item))
            for item in options
            if item.name != "help"
        ),
    )


def _names(option: Any) -> str:  # noqa: ANN401 (an option of click)
    names = sorted(option.opts, key=len, reverse=True)
    return " ".join(code(name) for name in (*names, *option.secondary_opts))


def _values(parameter: Any) -> str:  # noqa: ANN401 (an argument or option of click)
    kind = parameter.type_descriptor.annotation
    while typing.get_origin(kind) in {list, tuple, types.UnionType, typing.Union}:
        (kind, *_) = [item for item in typing.get_args(kind) if item is not type(None)]
    if getattr(parameter, "is_flag", False):
        return "flag"
    if typing.get_origin(kind) is typing.Literal:
        shown = ", ".join(code(str(choice)) for choice in typing.get_args(kind))
    else:
        shown = {int: "integer", float: "number", str: "text", Path: "path"}[kind]
    shown += f", at least {parameter.min:g}" if parameter.min is not None else ""
    shown += (
        f", at most {parameter.max:g}" if parameter.max is not None and parameter.max < sys.maxsize else ""
    )
    return f"{shown}; may be repeated" if parameter.multiple or parameter.nargs == -1 else shown


def _default(option: Any) -> str:  # noqa: ANN401 (likewise)
    if option.required:
        return "required"
    value = option.default
    if isinstance(value, bool):
        return code((option.opts if value else option.secondary_opts)[0]) if option.secondary_opts else ""
    if isinstance(value, Path):
        return code(value.as_posix())
    return code(str(value)) if isinstance(value, str | int | float) and value != "" else ""


def _meaning(option: Any) -> str:  # noqa: ANN401 (likewise)
    # Angle brackets of a help text are words, not HTML.
    return (option.help or "").replace("<", "&lt;").replace(">", "&gt;")
