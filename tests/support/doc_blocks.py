"""The code blocks of a page of the documentation, and how they are run.

- ``console``: lines that begin with ``$ `` are commands, lines that begin with ``> `` go on with the one above, and
  the others are what it prints. ``...`` stands for anything within a line, and a line of it alone for any lines. What
  differs between runs (times, hashes, revisions, sizes, places) is shown as it was once and not compared.
- ``bash``: commands, whose output does not matter.
- ``python``: a program; a ``text`` block right after it is what it prints.
- Any block with a ``title``: a file of that name and content.

A comment ``<!-- not run: REASON -->`` in front of a block says why it is not run, ``<!-- exit code: N -->`` that its
last command ends so. Blocks run in their order, in one shell and one folder a page.
"""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

RUN: Final = frozenset({"console", "bash", "python"})
_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>\w*)(?P<options>.*)$")
_TITLE: Final = re.compile(r'title="([^"]+)"')
_NOT_RUN: Final = re.compile(r"^\s*<!-- not run: (.+) -->$")
#: What no two runs have alike.
_VOLATILE: Final = re.compile(
    r"\d{4}-\d\d-\d\d(T[\d:.]+Z?)?|\d\d:\d\d:\d\d|\b[0-9a-f]{12,64}\b|\b\d{13}\b|\b\d+ bytes\b|\b\d+\.\d s\b|\b\d@\d+\b"
    r"|pid \d+"
)
_EXIT_CODE: Final = re.compile(r"^\s*<!-- exit code: (\d+) -->$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block, the line that it begins at, and what is said about running it."""

    language: str
    title: str | None
    text: str
    line: int
    not_run: str | None
    exit_code: int


class Command(NamedTuple):
    """What is typed, and what is then printed; no lines where that does not matter."""

    text: str
    expected: tuple[str, ...]


class Step(NamedTuple):
    """A command of a page with what is to come of it."""

    command: Command
    line: int
    exit_code: int


def blocks(page: str) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    lines = page.split("\n")
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        start, indent = number, len(fence["indent"])
        number += 1
        while lines[number].strip() != "```":
            number += 1
        text = "".join(line[indent:] + "\n" for line in lines[start + 1 : number])
        before = [line for line in lines[:start] if line.strip()][-2:]
        title = _TITLE.search(fence["options"])
        reasons = [match[1] for line in before if (match := _NOT_RUN.match(line))]
        codes = [int(match[1]) for line in before if (match := _EXIT_CODE.match(line))]
        yield Block(
            language=fence["language"],
            title=title[1] if title else None,
            text=text,
            line=start + 1,
            not_run=reasons[-1] if reasons else None,
            exit_code=codes[-1] if codes else 0,
        )
        number += 1


def commands(block: Block) -> list[Command]:
    """Return the commands of a console block."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", [])
        else:
            assert found, f"line {block.line}: a console block begins with a command"
            found[-1][1].append(line)
    return [Command(text, tuple(expected)) for text, expected in found]


def script(page: str) -> tuple[str, list[Step]]:
    """Return a shell script that runs a page, and its steps; the output of step 3 goes to the file ``out/3``."""
    lines = ["mkdir -p out"]
    steps: list[Step] = []

    def step(command: Command, block: Block, exit_code: int, text: str) -> None:
        steps.append(Step(command, block.line, exit_code))
        # In this shell, so that what a command sets is there for the next one.
        lines.append(f"{{\n{text}\n}} > out/{len(steps) - 1} 2>&1 < /dev/null")
        lines.append(f"code=$?; [ $code -eq {exit_code} ] || exit 99")

    found = list(blocks(page))
    for position, block in enumerate(found):
        if block.not_run is not None:
            continue
        if block.title is not None:
            folder = shlex.quote(str(Path(block.title).parent))
            lines.append(
                f"mkdir -p {folder}\ncat > {shlex.quote(block.title)} <<'END_OF_FILE'\n{block.text}END_OF_FILE"
            )
        elif block.language == "console":
            typed = commands(block)
            for number, command in enumerate(typed):
                is_last = number == len(typed) - 1
                step(command, block, block.exit_code if is_last else 0, command.text)
        elif block.language == "bash":
            # Of several commands, the first that fails counts.
            step(Command(block.text, ()), block, block.exit_code, f"set -e\n{block.text}set +e")
        elif block.language == "python":
            after = found[position + 1] if position + 1 < len(found) else None
            is_output = after is not None and after.language == "text" and after.title is None
            expected = tuple(after.text.splitlines()) if after is not None and is_output else ()
            step(
                Command(f"python: {block.text.splitlines()[0]}", expected),
                block,
                block.exit_code,
                f"python - <<'END_OF_FILE'\n{block.text}END_OF_FILE",
            )
    return "\n".join([*lines, ""]), steps


def matches(expected: tuple[str, ...], printed: str) -> bool:
    """Say whether a command printed what the page shows."""
    if not expected:
        return True
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in _stable(line).split("...")) + r"\n"
    text = "".join(_stable(line) + "\n" for line in printed.splitlines())
    return re.fullmatch(pattern, text) is not None


def _stable(line: str) -> str:
    return _VOLATILE.sub("#", line).rstrip()
