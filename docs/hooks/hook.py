"""What mkdocs calls: pages generated from the code, and pages of the repository that the site shows too.

Links between files of the repository work on both sides: where the site shows the file, the link leads to its page;
where it does not, the text stands without a link.
"""

import posixpath
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import cli_page
import errors_page
import metrics_page
import schemas_page
import settings_page
import steps_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
#: Where the site's own pages are, from the root of the repository.
PAGES: Final = "docs/pages"
#: Pages that are generated at each build.
GENERATED: Final[Mapping[str, Callable[[], str]]] = types.MappingProxyType({
    "reference/cli.md": cli_page.render,
    "reference/settings.md": settings_page.render,
    "reference/metrics.md": metrics_page.render,
    "reference/errors.md": errors_page.render,
    "reference/schemas.md": schemas_page.render,
    "reference/steps.md": steps_page.render,
})  # fmt: skip
DECISIONS: Final = "explanation/decisions"
RUNBOOKS: Final = "how-to/runbooks"
_LINK: Final = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
#: Code blocks, in which nothing is a link.
_CODE: Final = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def shown_files() -> dict[str, str]:
    """Return the page of each file outside the site that the site shows, by its path in the repository."""
    shown = {
        "ARCHITECTURE.md": "explanation/architecture.md",
        "CONTRIBUTING.md": "explanation/contributing.md",
        "CHANGELOG.md": "reference/changelog.md",
        "ops/runbooks/README.md": f"{RUNBOOKS}/index.md",
    }
    shown |= {
        f"ops/runbooks/{path.name}": f"{RUNBOOKS}/{path.name}"
        for path in sorted((ROOT / "ops/runbooks").glob("*.md"))
        if path.name != "README.md"
    }
    shown |= {
        f"ops/adr/{path.name}": f"{DECISIONS}/{path.name}" for path in sorted((ROOT / "ops/adr").glob("*.md"))
    }
    shown |= {
        f"docs/schemas/{path.name}": f"reference/schemas/{path.name}"
        for path in sorted((ROOT / "docs/schemas").glob("*.json"))
    }
    return shown


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every runbook and every decision into the navigation."""
    shown = [uri for uri in shown_files().values() if uri.endswith(".md")]

    def pages_of(folder: str) -> list[str]:
        index = f"{folder}/index.md"
        return [index, *(uri for uri in shown if uri.startswith(f"{folder}/") and uri != index)]

    def expand(entry: Any) -> Any:  # noqa: ANN401 (YAML)
        if isinstance(entry, list):
            return [expand(item) for item in entry]
        if isinstance(entry, dict):
            return {title: expand(item) for title, item in entry.items()}
        return pages_of(entry.rstrip("/")) if entry.endswith("/") else entry

    config.nav = expand(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file of their own below ``docs/pages``."""
    for uri, render in GENERATED.items():
        files.append(File.generated(config, uri, content=render()))
    files.append(File.generated(config, f"{DECISIONS}/index.md", content=_decisions()))
    for path, uri in shown_files().items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links between files of the repository to the pages that show them."""
    del config, files
    uri = page.file.src_uri
    shown = shown_files()
    source = next((path for path, target in shown.items() if target == uri), f"{PAGES}/{uri}")
    return rewrite_links(markdown, source=source, uri=uri, shown=shown)


def rewrite_links(markdown: str, *, source: str, uri: str, shown: Mapping[str, str]) -> str:
    """Return a page whose links lead to pages of the site.

    Parameters
    ----------
    markdown : str
        The page.
    source : str
        Its path in the repository: what its links are relative to.
    uri : str
        Its path in the site.
    shown : mapping of str to str
        As of ``shown_files``.
    """

    def lead(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in shown:
            page = shown[path]
        elif path.startswith(f"{PAGES}/"):
            page = path.removeprefix(f"{PAGES}/")
        elif (ROOT / path).exists():
            return text
        else:
            return match[0]  # the strict build names it
        return f"[{text}]({posixpath.relpath(page, posixpath.dirname(uri) or '.')}{anchor})"

    return "".join(
        piece if position % 2 else _LINK.sub(lead, piece)
        for position, piece in enumerate(_CODE.split(markdown))
    )


def _decisions() -> str:
    lines = [
        "# Decisions",
        "",
        "What was decided, why, what else was tried, and what shows that it works: a page each.",
        "",
    ]
    for path in sorted((ROOT / "ops/adr").glob("*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        number, _, name = title.partition(". ")
        lines.append(f"{number}. [{name}]({path.name})")
    return "\n".join([*lines, ""])
