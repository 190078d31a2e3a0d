"""Every public name says what it does, and the examples in docstrings are true."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "streams", "export", "ops")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text(encoding="utf-8")]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=shown)
def test_the_examples_in_docstrings_are_true(path: Path) -> None:
    name = ".".join(["alignstream", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    failed, attempted = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert attempted > 0
    assert failed == 0


def public(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Return public functions and classes of a module, and public methods of public classes."""
    found: list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
            found.append(node)
            if isinstance(node, ast.ClassDef):
                found.extend(
                    item
                    for item in node.body
                    if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name[0] != "_"
                )
    return found


def says_more_than(name: str, text: str) -> bool:
    """Say whether a docstring has a word that is not in the name, articles and the like aside."""
    said = {word.rstrip("s") for word in re.findall(r"[a-z0-9]+", text.lower())}
    named = {word.rstrip("s") for word in re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower())}
    return len(said - named - {"the", "a", "an", "it", "of", "to", "return", "and"}) > 0


@pytest.mark.parametrize(
    ("name", "text", "is_more"),
    [
        ("free_port", "Return the free port.", False),
        ("free_port", "Return a port that nobody listens on.", True),
        ("EpochWriter", "The epochs' writer.", False),
    ],
)
def test_a_docstring_that_repeats_the_name_is_found(name: str, text: str, *, is_more: bool) -> None:
    assert says_more_than(name, text) is is_more


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_every_module_and_public_name_says_what_it_does(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text = ast.get_docstring(tree)
    assert text, "the module does not say its job"
    for node in public(tree):
        text = ast.get_docstring(node)
        assert text, f"{node.name} has no docstring"
        assert says_more_than(node.name, text), f"{node.name}: its docstring repeats its name"


def test_there_is_something_to_check() -> None:
    assert WITH_EXAMPLES
    assert len(MODULES) > 40
