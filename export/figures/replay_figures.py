"""What it is worth that queries adapt to a stream: ``python -m alignstream.export.figures.replay_figures``.

It replays streams of the public sets, as ``alignstream replay`` does, and prints the figures of
``docs/pages/measurements/following.md``; ``--document`` writes them there. Needs ALIGNSTREAM_DATA.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console

from alignstream.export.evaluate.prequential.replay_page import section
from alignstream.export.evaluate.prequential.replay_run import replay_public_sets
from alignstream.export.evaluate.session import Session
from alignstream.export.figures import program
from alignstream.export.figures.marked_section import MarkedSection

SECTION: Final = MarkedSection(
    heading="## What it is worth",
    begin="<!-- written by: python -m alignstream.export.figures.replay_figures "
    "--document docs/pages/measurements/following.md -->",
    end="<!-- end of what is written -->",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run this module as a program."""
    program.run_section(program.parser_of("replay_figures", __doc__), arguments, SECTION, _run)


def _run(options: argparse.Namespace) -> Iterator[str]:
    sources = program.open_sources(options)
    session = Session(cache=sources.cache, adapter=sources.shipped_adapter(), adapter_name="shipped")
    errors = Console(stderr=True)
    report = replay_public_sets(
        session, options.data, status=lambda name: errors.print(f"replaying: {name}", markup=False)
    )
    yield from section(report)


if __name__ == "__main__":
    main()
