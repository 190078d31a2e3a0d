"""Columns: each says which texts it saw, and changes nothing where there is nothing to change."""

from collections.abc import Mapping

from toy_languages import toy_vectors

from alignstream.export.evaluate.columns import (
    ADAPTER,
    ADAPTER_CSLS,
    RAW,
    RAW_CSLS,
    STREAM,
    Results,
    joined,
    with_corrections,
)
from alignstream.export.evaluate.exact_search import Centred
from alignstream.export.evaluate.measures import FROM_PIVOT, TO_PIVOT, retrieval
from alignstream.models.arrays import Matrix


def in_all_columns(raw: Mapping[str, Matrix], aligned: Mapping[str, Matrix]) -> Results:
    return joined(
        with_corrections(lambda find: retrieval(raw, "en", find=find), is_aligned=False, block_bytes=3000),
        with_corrections(lambda find: retrieval(aligned, "en", find=find), is_aligned=True, block_bytes=3000),
    )


def test_every_column_says_which_texts_it_saw() -> None:
    raw = toy_vectors()
    moved = {language: Centred(X)[0 : len(X)] for language, X in raw.items()}
    found = in_all_columns(raw, moved)
    kinds = {column.name: column.kind for column in found[TO_PIVOT]}
    assert kinds["raw"] == kinds["adapter"] == "inductive"
    assert {name for name, kind in kinds.items() if kind == "causal"} == {STREAM.name}
    assert all(("CSLS" in name or "list" in name) == (kind == "transductive") for name, kind in kinds.items())
    assert list(kinds)[:3] == ["raw", "adapter", "adapter + stream mean"]
    for measure in (TO_PIVOT, FROM_PIVOT):
        assert found[measure][RAW].figures == retrieval(raw, "en")[measure].figures
        assert found[measure][ADAPTER].figures == retrieval(moved, "en")[measure].figures


def test_a_column_without_an_adapter_is_the_raw_column() -> None:
    raw = toy_vectors()
    found = in_all_columns(raw, raw)[TO_PIVOT]
    assert found[ADAPTER].figures == found[RAW].figures
    assert found[ADAPTER_CSLS].figures == found[RAW_CSLS].figures
