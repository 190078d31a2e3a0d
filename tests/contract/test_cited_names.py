"""Every path and every name that CONTRIBUTING, ARCHITECTURE and the glossary cite exists; and what must be cited is."""

from pathlib import Path
from typing import Final

import pytest
from citations import code_names, drawn_rooms, exists, links, rooms_on_disk
from product import FOLDERS, ROOT, programs

CONTRIBUTING: Final = ROOT / "CONTRIBUTING.md"
ARCHITECTURE: Final = ROOT / "ARCHITECTURE.md"
GLOSSARY: Final = ROOT / "docs/pages/reference/glossary.md"
#: Code that names nothing in this repository, and what it is.
OTHERS: Final = {
    "make": "the program itself",
    "epoch/": "how keys of epochs.v1 begin",
    "ops → streams | export → models": "the arrows of the folders",
    "<!-- not run: REASON -->": "a comment in a page",
    "cls": "a pooling",
    "pt-BR": "a language tag",
    "query: ": "a prefix of texts",
    "{label}": "a place in a template",
}
#: Run by the product itself, not by people.
NOT_FOR_PEOPLE: Final = {"alignstream.ops.local.supervised": "what 'alignstream up' leaves running"}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "at_least"),
    [(CONTRIBUTING, 40), (ARCHITECTURE, 40), (GLOSSARY, 5)],
    ids=["contributing", "architecture", "glossary"],
)
def test_what_a_page_cites_as_code_exists(page: Path, at_least: int) -> None:
    names = code_names(text_of(page))
    assert len(names) >= at_least
    assert [name for name in names if name not in OTHERS and not exists(name)] == []


def test_what_is_excused_is_cited() -> None:
    cited = {name for page in (CONTRIBUTING, ARCHITECTURE, GLOSSARY) for name in code_names(text_of(page))}
    assert OTHERS.keys() <= cited


@pytest.mark.parametrize("page", [CONTRIBUTING, ARCHITECTURE], ids=lambda page: page.stem.lower())
def test_what_a_page_links_to_exists(page: Path) -> None:
    found = links(text_of(page))
    assert found
    assert [link for link in found if not (page.parent / link).exists()] == []


def test_every_program_of_maintainers_is_listed() -> None:
    listed = {name.split()[2] for name in code_names(text_of(CONTRIBUTING)) if name.startswith("python -m ")}
    assert programs() - NOT_FOR_PEOPLE.keys() == {name for name in listed if name.startswith("alignstream.")}
    assert NOT_FOR_PEOPLE.keys() <= programs()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_rooms_that_are_drawn_are_those_on_disk(folder: str) -> None:
    drawn = {room for name, room in drawn_rooms(text_of(ARCHITECTURE)) if name == folder}
    without_code = {
        room
        for room in drawn
        if (ROOT / folder / room).is_dir() and not (ROOT / folder / room / "__init__.py").is_file()
    }
    assert drawn - without_code == rooms_on_disk(folder)


@pytest.mark.parametrize(
    "name",
    [
        "models/nowhere.py", "make nothing", "python -m alignstream.export.nothing", "alignstream nothing",
        "streams.wire.codec.Nothing", "NoClassOfThis", "ALIGNSTREAM_NOTHING", '{"nothing": 1}', "nothing.v1",
        "python -m alignstream.ops.admin.schemas docs/nowhere",
    ],
)  # fmt: skip
def test_a_name_of_nothing_does_not_exist(name: str) -> None:
    assert not exists(name)
