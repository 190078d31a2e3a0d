"""The page of the kinds of adapter steps: what each does, what a file holds of it, what it costs."""

import inspect
import re
from collections.abc import Iterator
from typing import Final

from markdown_table import code, table

from alignstream.models.adapter.steps.kinds import KINDS
from alignstream.models.adapter.steps.step import Step, parameter_names

_HEAD: Final = """\
# Adapter steps

An adapter is a chain of steps and one normalisation at the end. Each kind below is a class in
`models/adapter/steps`; what an [adapter file](files.md#adapter-file) holds of it are its tensors (float32) and its
parameters (JSON). How they are fitted is in [Alignment](../explanation/alignment.md), what they are worth in
[Methods compared](../measurements/alignment.md).
"""
_DIM: Final = 8
_SEED: Final = 1


def render() -> str:
    """Return the page."""
    lines = [_HEAD]
    lines += table(
        ("kind", "what it does", "uses the language tag", "has a language's mean"),
        (
            (
                f"[`{kind}`](#{kind})",
                _sentence(step),
                "yes" if "languages" in parameter_names(step) else "no",
                "yes" if step.example(_DIM, _SEED).language_means is not None else "no",
            )
            for kind, step in KINDS.items()
        ),
    )
    for kind, step in KINDS.items():
        lines += [f"## {kind} {{ #{kind} }}", "", *_section(step)]
    return "\n".join(lines)


def _document(step: type[Step]) -> str:
    return inspect.cleandoc(step.__doc__ or "").replace("``", "`")


def _sentence(step: type[Step]) -> str:
    return _document(step).partition("\n\n")[0]


def parts(step: type[Step]) -> dict[str, str]:
    """Return the sections of a step's docstring by heading; what stands before the first one has none."""
    pieces = re.split(r"\n\n?([A-Z]\w+)\n-{3,}\n", "\n" + _document(step))
    return {"": pieces[0].strip(), **dict(zip(pieces[1::2], pieces[2::2], strict=True))}


def _section(step: type[Step]) -> Iterator[str]:
    found = parts(step)
    yield from (found[""], "")
    yield from table(("name", "kind", "type", "meaning"), _stored(step, found.get("Parameters", "")))
    yield from (f"*In `explain`*: `{step.example(_DIM, _SEED).describe()}`", "")
    if "Notes" in found:
        yield from (f"*Cost and source*: {found['Notes'].strip()}", "")
    yield from (f"*Class*: `{step.__module__}.{step.__name__}`", "")


def _stored(step: type[Step], text: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield each tensor and parameter; the docstring says what it is."""
    entries = re.findall(r"^(\w[\w, ]*) : (.+)\n((?: +.*\n?)+)", text + "\n", re.MULTILINE)
    for names, kind, meaning in entries:
        for name in names.split(", "):
            stored = "tensor" if name in step.tensor_names else "parameter"
            yield code(name), stored, kind, meaning
