"""What the programs of this folder share: their options, the public sets that they open, and how they end."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import platformdirs
from rich.console import Console

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.data.public_sets import VARIABLE
from alignstream.export.encoders.embedded import cached_artifact
from alignstream.export.figures.marked_section import MarkedSection
from alignstream.export.figures.sources import Sources
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import AlignstreamError


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that say where the public sets and the cache are."""
    parser = argparse.ArgumentParser(
        prog=f"python -m alignstream.export.figures.{module}", description=description
    )
    parser.add_argument("--data", type=Path, default=os.environ.get(VARIABLE), help="the public sets")
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=os.environ.get("ALIGNSTREAM_CACHE_DIR") or platformdirs.user_cache_dir("alignstream"),
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="of the encoder; 0: as many as there are cores"
    )
    return parser


def open_sources(options: argparse.Namespace) -> Sources:
    """Open the public sets, the embedded encoder and the cache of its vectors."""
    encoder = OnnxEncoder(cached_artifact(options.cache_dir), threads=options.threads)
    cache = EmbeddingCache(
        options.cache_dir, fingerprint=encoder.fingerprint, dim=encoder.dim, encode=encoder.encode_texts
    )
    return Sources(options.data, cache, encoder=encoder.fingerprint)


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    program: Callable[[argparse.Namespace], Iterable[str]],
) -> None:
    """Parse options, print the lines of a program as they come, and end with 1 where it cannot be done."""
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error(f"name the folder with the public sets: --data or {VARIABLE}")
    console = Console(highlight=False, soft_wrap=True)
    try:
        for line in program(options):
            console.print(line, markup=False)
    except AlignstreamError as error:
        Console(stderr=True).print(
            f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(1)


def run_section(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    section: MarkedSection,
    lines: Callable[[argparse.Namespace], Iterable[str]],
) -> None:
    """Run a program whose lines may also be written between the markers of a page: ``--document``."""
    parser.add_argument(
        "--document", type=Path, help="also write the lines between their markers in this page"
    )

    def program(options: argparse.Namespace) -> Iterable[str]:
        if options.document is not None:
            section.write(options.document, [], is_trial=True)
        made = []
        for line in lines(options):
            made.append(line)
            yield line
        if options.document is not None:
            section.write(options.document, made)

    run(parser, arguments, program)
