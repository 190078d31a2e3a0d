"""The page of the errors: the tree, and what each one says."""

import inspect
from collections.abc import Iterator
from typing import Final

from alignstream.models import errors
from alignstream.models.errors import AlignstreamError

_HEAD: Final = """\
# Errors

Every error that a person can act on derives from `AlignstreamError`, in `alignstream.models.errors`. The command line
shows it as one message without a traceback and ends with code 1; in Python, catch the class that you can handle.
A record that is bad is no error but a value: it becomes a [dead letter](records.md#documentsdead-letterv1), and its
neighbours go on.
"""


def render() -> str:
    """Return the page."""
    tree = inspect.cleandoc(errors.__doc__ or "").partition("::\n")[2]
    drawn = [line.removeprefix("    ") for line in tree.split("\n") if line.startswith("    ")]
    return "\n".join([_HEAD, "```text", *drawn, "```", "", *_sections(AlignstreamError, ())])


def _sections(kind: type[AlignstreamError], above: tuple[str, ...]) -> Iterator[str]:
    level = "#" * min(len(above) + 2, 4)
    yield from (f"{level} {kind.__name__} {{ #{kind.__name__} }}", "")
    if above:
        yield from (f"*Derives from* [`{above[-1]}`](#{above[-1]}).", "")
    yield from (_text(kind), "")
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _sections(child, (*above, kind.__name__))


def _text(kind: type[AlignstreamError]) -> str:
    """Return the docstring as Markdown: a list of attributes below the sentence."""
    text = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
    sentence, _, attributes = text.partition("\n\nAttributes\n----------\n")
    lines = [sentence, ""]
    for line in attributes.splitlines():
        if line.startswith(" "):
            lines[-1] += f" {line.strip()}"
        else:
            name, _, of = line.partition(" : ")
            lines.append(f"- `{name}` ({of}):")
    return "\n".join(lines).strip()
