"""Modules that are imported when a test first uses them, not when it is collected.

Every process of ``pytest -n`` collects every test. torch and what imports it take 300 MiB in each; the one process that
runs the tests of them is enough.
"""

import importlib
import importlib.util
from typing import Any

import pytest

#: For all tests of a file that uses torch.
needs_torch = [
    pytest.mark.export,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the export extra"),
]


class _Late:
    """Stands for a module, or for something of it."""

    def __init__(self, module: str, name: str | None) -> None:
        object.__setattr__(self, "_where", (module, name))

    def _found(self) -> Any:
        module, name = object.__getattribute__(self, "_where")
        found = importlib.import_module(module)
        return found if name is None else getattr(found, name)

    def __getattr__(self, name: str) -> Any:
        # pytest asks everything in a file what it is.
        if name.startswith("__") or name == "_mock_name":
            raise AttributeError(name)
        return getattr(self._found(), name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._found()(*arguments, **options)


def late(module: str, name: str | None = None) -> Any:
    """Return what stands for a module, or for a class or function of it, until it is used."""
    return _Late(module, name)
