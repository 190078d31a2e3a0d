"""The laws of the house: no circle, no dead room, no file too long, every error in the one tree."""

import ast
import builtins
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from product import ROOT, imported, module_name, modules, programs, tree

from alignstream.models import errors
from alignstream.models.errors import AlignstreamError

MOST_LINES: Final = 400
MOST_LINES_OF_TESTS: Final = 600
#: No program of the product comes to these, and yet they stay.
KEPT: Final = {
    "alignstream.models.registry.memory_store": "the laws of registries run on it beside Redis",
}
#: Errors that never leave the module that defines them.
PRIVATE: Final = re.compile(r"_\w+$")


# -- imports ------------------------------------------------------------------------------------------------


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return circles of modules, none where there is none; of those that share modules, one."""
    left = dict(graph)
    found: list[list[str]] = []
    while left:
        if ends := {name for name, goals in left.items() if not goals & left.keys()}:
            left = {name: goals for name, goals in left.items() if name not in ends}
            continue
        # Everything leads somewhere: whoever goes on for long enough comes back.
        name, way = min(left), list[str]()
        while name not in way:
            way.append(name)
            name = min(left[name] & left.keys())
        found.append(way[way.index(name) :])
        left = {name: goals for name, goals in left.items() if name not in found[-1]}
    return found


@pytest.mark.parametrize("nested", [False, True], ids=["at import", "in functions too"])
def test_no_module_comes_back_to_itself_by_imports(*, nested: bool) -> None:
    """By what runs when a module is imported, and by all imports, in functions and for type checkers too."""
    graph = {name: imported(name, nested=nested) for name in modules()}
    assert sum(map(len, graph.values())) > 500
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert [sorted(circle) for circle in circles(graph)] == [["b", "c"]]


def reached_by_programs() -> set[str]:
    """Return what a program can come to: the command line, or a module that ``python -m`` runs."""
    found: set[str] = set()
    left = [*programs(), "alignstream.ops.cli"]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            package = name.rpartition(".")[0]
            left += [*imported(name, nested=True), *({package} & modules().keys())]
    return found


def test_no_module_is_there_for_tests_alone() -> None:
    assert set(modules()) - reached_by_programs() == set(KEPT)


# -- size ---------------------------------------------------------------------------------------------------


def n_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_of_the_product_is_too_long() -> None:
    assert {name: n_lines(path) for name, path in modules().items() if n_lines(path) > MOST_LINES} == {}


def test_no_file_of_the_tests_is_too_long() -> None:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    assert len(paths) > 100
    too_long = {str(path): n_lines(path) for path in paths if n_lines(path) > MOST_LINES_OF_TESTS}
    assert too_long == {}


# -- errors -------------------------------------------------------------------------------------------------


def defined_errors() -> dict[str, list[str]]:
    """Return the classes that are exceptions by their names, and the modules that define them."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for path in modules().values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    kinds = {
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    while more := {name for name, above in bases.items() if above & kinds} - kinds:
        kinds |= more
    found: dict[str, list[str]] = {}
    for path in modules().values():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and node.name in kinds:
                found.setdefault(node.name, []).append(module_name(path))
    return found


def test_every_public_error_is_defined_in_the_one_module() -> None:
    found = defined_errors()
    assert len(found) > 50
    elsewhere = {
        name: where
        for name, where in found.items()
        if not PRIVATE.match(name) and where != ["alignstream.models.errors"]
    }
    assert elsewhere == {}


def drawn_tree() -> dict[str, str]:
    """Return every error that the docstring draws, and the one that it hangs below."""
    assert errors.__doc__ is not None
    drawing = errors.__doc__.partition("::\n\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in drawing.splitlines():
        match = re.match(r" {4}([│├└─ ]*)(\w+) +(\S.*)$", line)
        assert match is not None, line
        depth = len(match[1]) // 4
        above[depth] = match[2]
        assert match[2] not in found, f"{match[2]} is drawn twice"
        found[match[2]] = above[depth - 1] if depth else "Exception"
    return found


def test_the_tree_of_errors_in_the_docstring_is_the_tree() -> None:
    real = {
        kind.__name__: kind.__bases__[0].__name__
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, AlignstreamError)
    }
    assert drawn_tree() == real
