"""The named sets: development parts alone, line by line, each with its note."""

import os
from pathlib import Path
from typing import Any

import pytest

from alignstream.export.data.named_sets import NamedSets
from alignstream.export.data.public_sets import VARIABLE
from alignstream.export.data.selection import TextSelection

needs_data = pytest.mark.skipif(not os.environ.get(VARIABLE), reason="needs ALIGNSTREAM_DATA")


@needs_data
def test_the_named_sets_are_development_parts_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = Path.open

    def record(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", record)
    named = NamedSets(Path(os.environ[VARIABLE]))
    few = TextSelection(languages=["de"], limit=20)
    for name in ("ntrex-dev", "sib-dev", "xsid-valid"):
        found = named.parallel(name, few)
        assert (len(found.by_language), found.n_lines) == (2, 20)
    assert named.parallel("ntrex-dev", TextSelection()).n_lines == 300
    assert named.parallel("tico-19", TextSelection(languages=["sw"], pivot="fr")).pivot == "fr"
    nusax = named.parallel("nusax-valid", TextSelection(languages=["jv"], limit=9))
    assert (list(nusax.by_language), nusax.n_lines) == (["en", "jv"], 9)
    for name in ("sib-dev", "xsid-valid", "nusax-valid"):
        labelled = named.labelled(name, TextSelection(limit=30))
        assert all(set(gold) <= set(labelled.words) for gold in labelled.gold.values())
        assert all(len(labelled.texts[key]) == len(gold) == 30 for key, gold in labelled.gold.items())
    assert named.labelled("sib-dev", few).train_language == "eng_Latn"
    assert len(named.scored(TextSelection()).scores["de"]) == 1500
    words = named.words(TextSelection(limit=15)).pairs
    assert {target for _, target in words} == {"cs", "sv", "es", "pt", "hi"}
    for pairs in words.values():
        for pair in pairs:
            assert all(a < len(pair.source) and b < len(pair.target) for a, b in pair.links)
    territories = named.terms("cldr-territories", TextSelection(languages=["de", "sw"], limit=50)).lists
    assert {item.target_language for item in territories.values()} == {"en"}
    lexicons = named.terms("panlex", TextSelection(languages=["ko"])).lists
    assert set(lexicons) == {"fi-ko", "tr-ko"}
    # TICO-19 was only ever published as a test set; nothing was held out from it for this project.
    assert [name for name in opened if "test" in name and not name.startswith(("tico19", "newstest"))] == []
