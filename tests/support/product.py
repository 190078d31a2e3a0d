"""The product's modules as their files say: where they are, what they define, and what they import."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("models", "streams", "export", "ops")
NAMESPACE: Final = "alignstream"


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the product."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((NAMESPACE, *parts)).removesuffix(".__init__")


@functools.cache
def modules() -> dict[str, Path]:
    """Return every module of the product by its dotted name."""
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return {module_name(path): path for path in paths}


@functools.cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def _absolute(node: ast.ImportFrom, importer: str) -> str:
    if not node.level:
        return node.module or ""
    is_package = modules()[importer].name == "__init__.py"
    parts = importer.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, node.module] if node.module else base)


def imported(name: str, *, nested: bool) -> set[str]:
    """Return the modules of the product that a module imports.

    Without ``nested``, only what is imported when the module is: imports in functions and those for type checkers are
    left out. ``from package import name`` is the module ``package.name`` where there is one, and else the package.
    """
    found: set[str] = set()
    for node in _statements(tree(modules()[name]), nested=nested):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, name)
            for alias in node.names:
                full = f"{source}.{alias.name}"
                found.add(full if full in modules() else source)
    return {item for item in found if item in modules() and item != name}


def _statements(node: ast.AST, *, nested: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if nested or not (is_function or _is_for_type_checkers(child)):
            yield child
            yield from _statements(child, nested=nested)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def programs() -> set[str]:
    """Return the modules that ``python -m`` runs."""
    return {
        name
        for name, path in modules().items()
        if any(
            isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test) for node in tree(path).body
        )
    }
