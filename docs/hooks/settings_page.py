"""The page of the settings: name, type, default and reason of each."""

import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import annotated_types
import platformdirs
from markdown_table import code, table
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from alignstream.streams.settings import PREFIX, Settings

_HEAD: Final = f"""\
# Settings

A setting is read from the environment, as `{PREFIX}` and its name in capitals, and from a TOML file under its name.
The environment wins. The file is the one that `ALIGNSTREAM_CONFIG` names, else `alignstream.toml` in the working
folder. An unknown or malformed setting stops the start with a message that names it. `alignstream config` shows what
is in effect, and where each value comes from.

```toml title="alignstream.toml"
broker = "kafka-1.example.net:9092,kafka-2.example.net:9092"
redis_url = "rediss://redis.example.net:6379/0"
tenants = ["acme", "globex"]
```

Read from the environment too, and not settings: `ALIGNSTREAM_CONFIG` (above), `ALIGNSTREAM_DATA` (the folder of
[public sets](data.md)) and `KAFKA_HOME` (an Apache Kafka distribution, for `alignstream up --kafka` and the tests).
"""
#: The heading of a group of settings in the source.
_GROUP: Final = re.compile(r"^    # -- (?P<group>[^-]+?) -+$|^    (?P<name>[a-z_]+): ", re.MULTILINE)
_HOME: Final = "~"


def groups() -> dict[str, list[str]]:
    """Return the names of all settings by the heading that they stand under in the source."""
    found: dict[str, list[str]] = {}
    group = ""
    for match in _GROUP.finditer(inspect.getsource(Settings)):
        if match["group"]:
            group = match["group"]
        elif match["name"] in Settings.model_fields:
            found.setdefault(group, []).append(match["name"])
    return found


def render() -> str:
    """Return the page."""
    lines = [_HEAD]
    for group, names in groups().items():
        lines += [f"## {group[0].upper()}{group[1:]}", ""]
        lines += table(("setting", "values and default", "meaning, and reason for the default"), _rows(names))
    return "\n".join(lines)


def _rows(names: list[str]) -> Iterator[tuple[str, str, str]]:
    for name in names:
        field = Settings.model_fields[name]
        variable = code(f"{PREFIX}{name.upper()}")
        yield (
            f'<span id="{name}">{code(name)}</span><br>{variable}',
            f"{_type(field.annotation, field)}<br>default: {_default(field.default)}",
            field.description or "",
        )


def _type(kind: Any, field: FieldInfo) -> str:  # noqa: ANN401 (an annotation)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(code(str(value)) for value in arguments)
    if origin in {typing.Union, types.UnionType}:
        (inner,) = [item for item in arguments if item is not type(None)]
        return _type(inner, field)
    if origin is tuple:
        return "JSON list of strings"
    if kind is bool:
        return "`true`, `false`"
    names = {int: "integer", float: "number", str: "string", Path: "path", SecretStr: "secret"}
    return names[kind] + _bounds(field)


def _bounds(field: FieldInfo) -> str:
    text = ""
    for item in field.metadata:
        if isinstance(item, annotated_types.Ge):
            text += f", at least {item.ge:,}"
        elif isinstance(item, annotated_types.Gt):
            text += f", more than {item.gt:,}"
        elif isinstance(item, annotated_types.Le):
            text += f", at most {item.le:,}"
    return text


def _default(value: Any) -> str:  # noqa: ANN401 (of any setting)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, Path):
        folders = {
            platformdirs.user_cache_dir("alignstream"): f"{_HOME}/.cache/alignstream",
            platformdirs.user_state_dir("alignstream"): f"{_HOME}/.local/state/alignstream",
        }
        return code(folders.get(str(value), str(value)))
    return code(str(value)) if value != "" else "empty"
