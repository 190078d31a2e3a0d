"""The documentation site: it builds strictly without a network, and its reference names everything that there is."""

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import doc_blocks
import pytest
import typer
from prometheus_client import CollectorRegistry

from alignstream.models import errors
from alignstream.models.adapter.steps.kinds import KINDS
from alignstream.models.adapter.steps.step import parameter_names
from alignstream.ops.cli import app
from alignstream.streams.learner.metrics import LearnerMetrics
from alignstream.streams.observe.sensors import Metrics
from alignstream.streams.settings import PREFIX, Settings
from alignstream.streams.wire.contract import schemas
from alignstream.streams.wire.topics import REASONS, specs

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ROOT / "docs/pages"
#: mkdocs without a network: whoever asks for a connection gets an error.
BUILD: Final = """
import runpy, socket, sys
def refuse(*_, **__):
    raise OSError("the build must not use the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
sys.argv = ["mkdocs", "build", "--strict", "--quiet", "--config-file", sys.argv[1], "--site-dir", sys.argv[2]]
runpy.run_module("mkdocs", run_name="__main__")
"""
#: Links that a reader may follow; everything else that a page loads must be of the site.
LOADED: Final = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?([^\s\">]+)", re.IGNORECASE
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(ROOT / "docs/mkdocs.yml"), str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    """Return what a page shows."""
    return html.unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))


COMMANDS: Final = typer.main.get_command(app)


def commands(command: Any, path: str = "alignstream") -> Iterator[tuple[str, Any]]:
    for name, member in getattr(command, "commands", {}).items():
        yield f"{path} {name}", member
        yield from commands(member, f"{path} {name}")


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    page = (site / "reference/cli.html").read_text(encoding="utf-8")
    found = list(commands(COMMANDS))
    assert len(found) > 40
    for name, command in found:
        section = page.partition(f'id="{"-".join(name.split())}"')[2].partition("<h2")[0].partition("<h3")[0]
        assert section, name
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert f"<code>{parameter.opts[0]}</code>" in section, (name, parameter.opts)


def test_every_setting_is_on_its_page(site: Path) -> None:
    text = text_of(site / "reference/settings.html")
    for name, field in Settings.model_fields.items():
        assert re.search(rf"\b{PREFIX}{name.upper()}\b", text), name
        assert " ".join((field.description or "").split()) in text, name


def test_every_metric_is_on_its_page(site: Path) -> None:
    text = text_of(site / "reference/metrics.html")
    registry = CollectorRegistry()
    LearnerMetrics(registry)
    families = [family for one in (Metrics().registry, registry) for family in one.collect()]
    assert len(families) > 30
    for family in families:
        if not family.name.startswith("process_"):
            assert re.search(rf"\b{family.name}(_total)?\b", text), family.name
            assert family.documentation.removesuffix(".") in text, family.name


def test_every_error_is_on_its_page(site: Path) -> None:
    page = (site / "reference/errors.html").read_text(encoding="utf-8")
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.AlignstreamError)
    ]
    assert len(kinds) > 40
    for kind in kinds:
        assert f'id="{kind.__name__}"' in page, kind


def test_every_kind_of_step_is_on_its_page_with_all_that_a_file_holds_of_it(site: Path) -> None:
    page = (site / "reference/steps.html").read_text(encoding="utf-8")
    for kind, step in KINDS.items():
        section = page.partition(f'id="{kind}"')[2].partition("<h2")[0]
        for name in (*step.tensor_names, *parameter_names(step)):
            assert f"<code>{name}</code>" in section, (kind, name)


def test_every_field_of_every_record_and_every_topic_is_on_its_page(site: Path) -> None:
    page = (site / "reference/schemas.html").read_text(encoding="utf-8")
    for spec in specs():
        assert spec.name in page
    for topic, schema in schemas().items():
        section = page.partition(f'id="{topic.replace(".", "-")}"')[2].partition("<h2")[0]
        fields = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]
        for name in fields:
            assert f"<code>{name}</code>" in section, (topic, name)
        assert (site / f"reference/schemas/{topic}.json").is_file()
    assert (site / "reference/schemas/asyncapi.json").is_file()


def test_every_reason_of_a_dead_letter_is_documented(site: Path) -> None:
    text = text_of(site / "reference/records.html")
    for reason in REASONS:
        assert reason in text


def test_the_python_page_shows_signatures_and_docstrings(site: Path) -> None:
    text = text_of(site / "reference/python.html")
    for shown in (
        "produce",
        "await_result",
        "OnnxEncoder",
        "transform_many",
        "packaged_adapter",
        "predict_one",
    ):
        assert shown in text
    assert "Send one document and return its id" in text


def test_every_decision_and_every_runbook_has_a_page(site: Path) -> None:
    for folder, pages in (("explanation/decisions", "ops/adr"), ("how-to/runbooks", "ops/runbooks")):
        for path in (ROOT / pages).glob("*.md"):
            name = "index" if path.stem == "README" else path.stem
            assert (site / folder / f"{name}.html").is_file()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        for target in LOADED.findall(page.read_text(encoding="utf-8")):
            assert not re.match(r"(https?:)?//", target), (page.name, target)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_the_search_index_holds_the_reference(site: Path) -> None:
    index = (site / "search/search_index.json").read_text(encoding="utf-8")
    for term in ("alignstream labels fit", "ALIGNSTREAM_RAW_VECTOR", "AdapterCorrupt", "prototype-attention"):
        assert term in index


# -- code blocks ---------------------------------------------------------------------------------------------


def sources() -> list[Path]:
    folders = (PAGES / "tutorial", PAGES / "how-to", ROOT / "ops/runbooks")
    return sorted(path for folder in folders for path in folder.glob("*.md"))


@pytest.mark.parametrize("page", sources(), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_of_tutorials_and_how_to_pages_are_run_or_say_why_not(page: Path) -> None:
    for block in doc_blocks.blocks(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {block.line}"
        assert block.language in {*doc_blocks.RUN, "json", "text", "ini"}, (
            f"{where}: {block.language!r} is not run"
        )
        if block.language == "json":
            assert block.title, f"{where}: no file of it is made"


@pytest.mark.parametrize("page", sources(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_not_run_exist_all_the_same(page: Path) -> None:
    known = dict(commands(COMMANDS))
    for block in doc_blocks.blocks(page.read_text(encoding="utf-8")):
        if block.not_run is None or block.language != "bash":
            continue
        for words in re.findall(
            r"^(?:docker compose exec \w+ )?(alignstream .*?)(?:\s+#.*)?$", block.text, re.MULTILINE
        ):
            name = max((name for name in known if words.startswith(name)), key=len, default="")
            assert name, f"{page.name}, line {block.line}: there is no {words!r}"
            options = {option for item in known[name].params for option in (*item.opts, *item.secondary_opts)}
            asked = set(re.findall(r"(?<=\s)--[a-z-]+", words))
            assert asked <= options | {"--help"}, f"{page.name}, line {block.line}: {asked - options}"


@pytest.mark.parametrize(
    ("expected", "printed", "is_same"),
    [
        (("3 confirmed",), "3 confirmed\n", True),
        (("3 confirmed",), "2 confirmed\n", False),
        (("a ... d", "..."), "a b c d\ne\nf\n", True),
        (("...", "last"), "first\nlast\n", True),
        (("...", "last"), "last\nmore\n", False),
        (("at 09:07:36, version e5fbc7fd906e",), "at 10:00:00, version 0123456789ab\n", True),
        (("0.95",), "0.96\n", False),
        ((), "whatever\n", True),
    ],
)
def test_printed_lines_are_compared_but_for_what_differs_between_runs(
    expected: tuple[str, ...], printed: str, *, is_same: bool
) -> None:
    assert doc_blocks.matches(expected, printed) is is_same
