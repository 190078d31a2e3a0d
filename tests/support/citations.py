"""The names that a page cites as code, and whether they exist."""

import ast
import functools
import importlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final

import typer
from product import FOLDERS, NAMESPACE, ROOT, modules, tree

from alignstream.ops.cli import app
from alignstream.streams.settings import NOT_SETTINGS, PREFIX, Settings
from alignstream.streams.wire.contract import schemas
from alignstream.streams.wire.topics import REASONS, specs

_FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def code_names(page: str) -> list[str]:
    """Return what stands between single backticks."""
    found = _CODE.findall(_FENCED.sub("", page))
    return list(dict.fromkeys(name if name.strip() != name else " ".join(name.split()) for name in found))


def links(page: str) -> list[str]:
    """Return the links of a page that do not leave the repository."""
    return [link for link in _LINK.findall(_FENCED.sub("", page)) if "://" not in link]


def exists(name: str) -> bool:
    """Say whether a name that is cited as code is one: a path, a command, a target, a module, a class and so on."""
    words = name.split()
    if words[0] == "make":
        return set(words[1:]) <= targets()
    if words[:2] == ["python", "-m"]:
        return is_module(words[2]) and all(is_path(word) for word in words[3:] if "/" in word)
    if words[0] == NAMESPACE and len(words) > 1:
        return words[1] in commands()
    if words[0].startswith("--"):
        return all(is_path(word) for word in words[1:])
    if name.startswith("{"):
        return is_document(name)
    return (
        is_path(name)
        or is_attribute(name)
        or name in {*classes(), *commands(), *REASONS, *(spec.name for spec in specs()), *fields(), NAMESPACE}
        or (name.startswith(PREFIX) and name in {*NOT_SETTINGS, *variables()})
        or name in distributions()
    )


def is_path(name: str) -> bool:
    """Say whether a path exists, from the root of the repository on."""
    return (ROOT / name).exists()


def is_module(name: str) -> bool:
    """Say whether ``python -m`` finds a module: of the product, or a folder of the tests with a ``__main__``."""
    return name in modules() or (ROOT / name.replace(".", "/") / "__main__.py").is_file()


def is_attribute(name: str) -> bool:
    """Say whether a dotted name of the product exists; ``alignstream.`` in front may be left out."""
    parts = name.removeprefix(f"{NAMESPACE}.").split(".")
    if parts[0] not in FOLDERS or not all(part.isidentifier() for part in parts):
        return False
    for n in range(len(parts), 0, -1):
        module = ".".join((NAMESPACE, *parts[:n]))
        if module in modules():
            value: Any = importlib.import_module(module)
            for part in parts[n:]:
                value = getattr(value, part, None)
            return value is not None
    return False


def is_document(text: str) -> bool:
    """Say whether a text is a document as ``documents.v1`` takes it, field by field."""
    schema = schemas()["documents.v1"]
    known = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]
    return bool(json.loads(text)) and set(json.loads(text)) <= set(known)


@functools.cache
def targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@functools.cache
def commands() -> set[str]:
    """Return the commands of the command line."""
    return set(getattr(typer.main.get_command(app), "commands", {}))


@functools.cache
def classes() -> set[str]:
    """Return the public classes of the product."""
    return {
        node.name
        for path in modules().values()
        for node in tree(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }


@functools.cache
def fields() -> set[str]:
    """Return the names of fields of records."""
    found: set[str] = set()
    for schema in schemas().values():
        for definition in schema["$defs"].values():
            found |= set(definition.get("properties", {}))
    return found


@functools.cache
def variables() -> set[str]:
    """Return the environment variables of settings, and others that the product reads."""
    read = {
        node.value
        for path in modules().values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return read | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


@functools.cache
def distributions() -> set[str]:
    """Return the names of what ``pyproject.toml`` depends on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    return {re.split(r"[^\w.-]", requirement)[0] for requirement in wanted}


def drawn_rooms(page: str) -> Iterator[tuple[str, str]]:
    """Yield the rooms that a page draws in a fenced block, each with its folder."""
    folder = ""
    for line in "\n".join(_FENCED.findall(page)).splitlines():
        if match := re.match(r"(\w+)/ ", line):
            folder = match[1]
        elif folder and (
            match := re.match(r"  ((?:[\w/]+)(?: · [\w/]+)*|[\w/]+(?: [\w/]+)*)(?:  +|$)", line)
        ):
            yield from ((folder, room.strip("/")) for room in re.split(r" · | ", match[1]))


def rooms_on_disk(folder: str) -> set[str]:
    """Return the rooms of a folder: its packages and its own modules."""
    top = ROOT / folder
    packages = {path.parent.name for path in top.glob("*/__init__.py")}
    return packages | {path.stem for path in top.glob("*.py") if path.stem != "__init__"}
