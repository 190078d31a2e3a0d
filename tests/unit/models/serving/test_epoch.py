"""The value of an epoch: equal contents have equal bytes, and whatever is damaged is refused with a reason."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import made_streams as made
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from made_streams import DIM, ENCODER
from numpy.typing import NDArray

from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.errors import PackedCorrupt
from alignstream.models.packed import pack, unpack
from alignstream.models.serving.epoch import (
    FORMAT,
    MAX_EPOCH_BYTES,
    Epoch,
    LabelExamples,
    MeanKey,
    Memory,
    TaggedVectors,
    from_bytes,
)
from alignstream.models.serving.tenant_map import TenantMap


def rows(n: int, seed: int) -> TaggedVectors:
    X = made.unit(np.random.default_rng(seed).standard_normal((n, DIM))) if n else np.zeros((0, DIM))
    return TaggedVectors(X.astype(np.float16), tuple(made.LANGUAGES[row % 4] for row in range(n)))


def epoch(seed: int = 0, *, n: int = 5, with_map: bool = True, number: int = 3) -> Epoch:
    rng = np.random.default_rng(seed)
    maps = LanguageMaps(
        left=rng.standard_normal((2, DIM, 3)).astype(np.float32),
        right=rng.standard_normal((2, 3, DIM)).astype(np.float32),
        languages=("de-Latn", "fr-Latn"),
    )
    return Epoch(
        encoder=ENCODER, tenant="acme", number=number, dim=DIM, reason="doubling",
        languages=(MeanKey("de-Latn"), MeanKey("fr-Latn", is_inferred=True)),
        means=rng.standard_normal((2, DIM)).astype(np.float32),
        weights=(3.5, 1000.0), dependence=1.25, n_keys=7, is_steady=True, bank=rows(n, 1),
        memory=Memory(rows(n, 2), rows(n, 3), tuple(map(str, range(n))), tuple((f"ä{i}", "b") for i in range(n))),
        examples=LabelExamples(rows(n, 4), ("topics",) * n, ("sports",) * n),
        tenant_map=TenantMap(maps, "0" * 12) if with_map else None,
    )  # fmt: skip


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 6), with_map=st.booleans())
@settings(deadline=None, max_examples=30)
def test_an_epoch_survives_its_file_and_equal_epochs_have_equal_bytes(
    seed: int, n: int, *, with_map: bool
) -> None:
    one = epoch(seed, n=n, with_map=with_map)
    found = from_bytes(one.blob, encoder=ENCODER)
    assert dataclasses.replace(found).blob == one.blob == epoch(seed, n=n, with_map=with_map).blob
    assert (found.version, found.sha256) == (one.version, one.sha256)
    assert found.memory.texts == one.memory.texts
    assert found.weights == one.weights
    for field in (
        "encoder",
        "tenant",
        "number",
        "dim",
        "reason",
        "languages",
        "dependence",
        "n_keys",
        "is_steady",
    ):
        assert getattr(found, field) == getattr(one, field)
    assert found.bank.vectors.tobytes() == one.bank.vectors.tobytes()
    assert (found.tenant_map is None) == (not with_map)
    if found.tenant_map is not None and one.tenant_map is not None:
        assert found.tenant_map.version == one.tenant_map.version


def test_any_other_content_has_another_version() -> None:
    one = epoch()
    others = [
        dataclasses.replace(one, number=4),
        dataclasses.replace(one, tenant="b"),
        dataclasses.replace(one, is_steady=False),
        dataclasses.replace(one, weights=(3.5, 999.0)),
        dataclasses.replace(one, tenant_map=None),
        dataclasses.replace(one, bank=rows(5, 9)),
    ]
    assert len({item.version for item in [one, *others]}) == 7


def test_the_version_of_a_map_is_that_of_its_numbers_its_languages_and_its_adapter() -> None:
    tenant_map = epoch().tenant_map
    assert tenant_map is not None
    maps = tenant_map.maps
    others = [
        TenantMap(maps, "1" * 12),
        TenantMap(LanguageMaps(maps.left, maps.right, ("de-Latn", "ru-Cyrl")), "0" * 12),
        TenantMap(LanguageMaps(maps.left * 2, maps.right, maps.languages), "0" * 12),
        TenantMap(LanguageMaps(maps.left, maps.right * 2, maps.languages), "0" * 12),
    ]
    assert len({item.version for item in [tenant_map, *others]}) == 5


def changed(
    change: Callable[[dict[str, Any], dict[str, NDArray[Any]]], None],
) -> bytes:
    values, arrays = unpack(epoch().blob, what="it", max_bytes=10**6)
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(values, arrays)
    return pack(values, arrays)


def put(name: str, value: object) -> bytes:
    return changed(lambda values, _: values.update({name: value}))


def inner(outer: str, name: str, value: object) -> bytes:
    return changed(lambda values, _: values[outer].update({name: value}))


def array(name: str, value: NDArray[Any]) -> bytes:
    return changed(lambda _, arrays: arrays.update({name: value}))


def nan(name: str) -> bytes:
    def change(_: object, arrays: dict[str, NDArray[Any]]) -> None:
        arrays[name].flat[0] = np.nan

    return changed(change)


DAMAGED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not an epoch"),
    "text": (b"hello", "not an epoch"),
    "truncated": (epoch().blob[:-7], "not an epoch"),
    "cut in the header": (epoch().blob[:100], "not an epoch"),
    "another file": (safetensors.numpy.save({"a": np.zeros(3)}), "not an epoch"),
    "metadata that is no JSON": (safetensors.numpy.save({}, metadata={"alignstream": "{"}), "not an epoch"),
    "values that are no object": (
        safetensors.numpy.save({}, metadata={"alignstream": "[]"}),
        "not a JSON object",
    ),
    "deep values": (safetensors.numpy.save({}, metadata={"alignstream": "[" * 100_000}), "not an epoch"),
    "too large": (b"\0" * (MAX_EPOCH_BYTES + 1), "more than the limit"),
    "another version": (
        put("format", "alignstream.epoch/2"),
        "of this version: its format is 'alignstream.epoch/2'",
    ),
    "no format": (changed(lambda values, _: values.pop("format") and None), "KeyError"),
    "a format that is a number": (put("format", 1), "of this version: its format is '1'"),
    "another dim": (put("dim", DIM + 1), "have shape"),
    "infinite dim": (put("dim", float("inf")), "OverflowError"),
    "dim of text": (put("dim", "many"), "ValueError"),
    "number none": (put("number", None), "TypeError"),
    "number 0": (put("number", 0), "number is 0"),
    "dependence NaN": (put("dependence", float("nan")), "dependence is nan"),
    "dependence 0": (put("dependence", 0), "dependence is 0.0"),
    "weights NaN": (put("weights", [1.0, float("nan")]), "negative or not finite"),
    "weights below 0": (put("weights", [1.0, -1.0]), "negative or not finite"),
    "fewer weights": (put("weights", [1.0]), "parts of its means differ in length: [1, 2]"),
    "fewer languages": (
        put("languages", [["de-Latn", False]]),
        "parts of its means differ in length: [1, 2]",
    ),
    "a language twice": (put("languages", [["de-Latn", False], ["de-Latn", False]]), "twice"),
    "a language that is none": (put("languages", [["de-Latn", False], [7, False]]), "TypeError"),
    "languages in one text": (put("languages", "de"), "TypeError"),
    "memory that is a list": (put("memory", []), "TypeError"),
    "bank with one language more": (
        put("bank", ["de-Latn"] * 6),
        "parts of its bank differ in length: [5, 6]",
    ),
    "bank of numbers": (put("bank", [1] * 5), "TypeError"),
    "fewer ids": (inner("memory", "ids", ["0"]), "parts of its memory differ in length: [1, 5]"),
    "texts of three": (inner("memory", "texts", [["a", "b", "c"]] * 5), "ValueError"),
    "fewer labels": (inner("examples", "labels", ["a"]), "parts of its examples differ in length: [1, 5]"),
    "map of one language": (
        inner("map", "languages", ["de-Latn"]),
        "language-maps has 2 rows for 1 languages",
    ),
    "no means": (changed(lambda _, arrays: arrays.pop("means") is None), "KeyError"),
    "no map": (changed(lambda _, arrays: arrays.pop("map.left") is None), "KeyError"),
    "means in float64": (array("means", np.zeros((2, DIM))), "type float64"),
    "bank in float32": (array("bank", np.zeros((5, DIM), dtype=np.float32)), "type float32"),
    "means of one dimension": (array("means", np.zeros(DIM, dtype=np.float32)), "have shape"),
    "one more row in the bank": (
        array("bank", np.zeros((6, DIM), dtype=np.float16)),
        "parts of its bank differ in length: [5, 6]",
    ),
    "one target less": (
        array("memory.targets", np.zeros((4, DIM), dtype=np.float16)),
        "parts of its memory differ in length",
    ),
    "map of another size": (
        changed(
            lambda _, arrays: arrays.update(
                {"map.left": np.zeros((2, 9, 3), np.float32), "map.right": np.zeros((2, 3, 9), np.float32)}
            )
        ),
        "its map has dimension 9",
    ),
    "map in float64": (array("map.left", np.zeros((2, DIM, 3))), "must be float32"),
    **{
        f"NaN in {name}": (nan(name), "not finite")
        for name in ("means", "bank", "memory.sources", "memory.targets", "examples", "map.left", "map.right")
    },
}


@pytest.mark.parametrize("name", DAMAGED)
def test_whatever_is_damaged_is_refused_with_a_reason(name: str) -> None:
    blob, message = DAMAGED[name]
    with pytest.raises(PackedCorrupt) as caught:
        from_bytes(blob)
    assert message in str(caught.value)
    assert "epoch" in str(caught.value)


@given(position=st.integers(0, len(epoch().blob) - 1), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=200)
def test_a_flipped_bit_is_refused_or_gives_another_epoch_but_raises_nothing_else(
    position: int, bit: int
) -> None:
    blob = bytearray(epoch().blob)
    blob[position] ^= 1 << bit
    try:
        found = from_bytes(bytes(blob))
    except PackedCorrupt:
        return
    assert found.sha256 != epoch().sha256
    assert np.all(np.isfinite(found.means))


def test_an_epoch_of_another_encoder_is_refused_by_name() -> None:
    with pytest.raises(PackedCorrupt, match="belongs to encoder eeeeeeeeeeee, but ffffffffffff is in use"):
        from_bytes(epoch().blob, encoder="f" * 64)
    assert from_bytes(epoch().blob).encoder == ENCODER


def test_fields_of_later_versions_are_ignored() -> None:
    assert json.dumps(FORMAT)
    assert from_bytes(put("later", [1])).number == 3
