"""Measure speed and memory, as ratios within one run: machines are shared, and no two are alike.

``python -m tests.bench`` from the root of the repository; needs the ``embedded`` and ``export`` extras.
"""

import argparse
import sys
import time
from pathlib import Path

from alignstream.models.errors import AlignstreamError
from alignstream.ops.admin.encoder_choice import artifact_folder, open_encoder
from alignstream.ops.local.brokers import kafka_home
from alignstream.ops.local.stack import Stack
from alignstream.streams.settings import load
from tests.bench import following, means, memory, report, start, throughput
from tests.bench.report import Figure

NAMES = ("service", "naive", "adapter", "following", "start", "memory", "means")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this alone; may be repeated")
    parser.add_argument(
        "--seconds", type=float, default=36.0, help="for each side of a comparison of speeds (default: 36)"
    )
    parser.add_argument(
        "--short-texts",
        type=int,
        default=memory.SHORT_TEXTS,
        help=f"for the slope of memory, at least {memory.MIN_SHORT_TEXTS} (default: %(default)s)",
    )
    parser.add_argument("--kafka", action="store_true", help="on the Apache Kafka in KAFKA_HOME")
    parser.add_argument("--output", type=Path, default=Path("build/bench/report.json"))
    parser.add_argument("--document", type=Path, help="also write the figures into this Markdown file")
    arguments = parser.parse_args()
    if arguments.short_texts < memory.MIN_SHORT_TEXTS:
        parser.error(f"--short-texts must be at least {memory.MIN_SHORT_TEXTS}, to fit a line")
    return arguments


def _measure(stack: Stack, arguments: argparse.Namespace) -> list[Figure]:
    wanted = set(arguments.only or NAMES)
    found: list[Figure] = []
    if wanted & {"service", "naive", "adapter"}:
        _say("speed: bare loop, service and naive agent in turn")
        rates = throughput.compare(stack, seconds=arguments.seconds, with_naive="naive" in wanted)
        found += [figure for figure in throughput.figures(rates) if figure.name in wanted]
    if "following" in wanted:
        _say("following: what workers observe, queries, and the learner")
        found += following.figures(open_encoder(load()))
    if "start" in wanted:
        _say("start: a bare script and a worker in turn")
        found += start.figures(stack)
    if "memory" in wanted:
        _say("memory: texts at the length limit, then short ones")
        found += memory.figures(stack, n_short=arguments.short_texts)
    if "means" in wanted:
        _say("means: what the learner holds")
        found += means.figures()
    return found


def _say(message: str) -> None:
    sys.stderr.write(f"{message}\n")


def main() -> int:
    """Measure; return 1 where a goal is missed."""
    arguments = _arguments()
    started = time.monotonic()
    about = report.machine()
    artifact_folder(load())  # assembled before anything is timed
    home = kafka_home() if arguments.kafka else None
    with Stack(kafka_home=home) as stack:
        about["broker"] = "Apache Kafka" if home else "Tansu"
        found = _measure(stack, arguments)
    report.show(found)
    report.write_json(arguments.output, about, found)
    if arguments.document is not None:
        report.write_document(arguments.document, about, found)
    _say(f"{arguments.output}; {time.monotonic() - started:.0f} s in all")
    return int(any(figure.is_met is False for figure in found))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AlignstreamError as error:
        sys.exit(str(error))
