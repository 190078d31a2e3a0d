"""A step comes back from its file bit for bit, and a file that is not one is refused."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from step_examples import (
    DIM,
    ENCODER,
    NAMES,
    alone,
    chains,
    contexts,
    every_kind,
    example_of,
    rows,
    seeds,
    unit_rows,
    untimed,
)

from alignstream.models.adapter.adapter import Adapter, from_bytes
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.kinds import make_step
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterCorrupt


def check_round_trip(adapter: Adapter, X: Matrix, context: Context) -> None:
    again = from_bytes(adapter.blob, encoder=ENCODER)
    assert (again.version, again.blob) == (adapter.version, adapter.blob)
    assert again.transform_many(X, context).tobytes() == adapter.transform_many(X, context).tobytes()
    # Written once more from what was read, not from the bytes that it remembers.
    written = Adapter(again.encoder, again.dim, again.steps, again.report)
    assert written.blob == adapter.blob


@every_kind
@given(seed=seeds, context=contexts())
@untimed
def test_a_member_comes_back_bit_for_bit(kind: str, seed: int, context: Context) -> None:
    check_round_trip(alone(kind, seed), unit_rows(seed, 3), context)
    assert alone(kind, seed).blob == alone(kind, seed).blob


@given(adapter=chains(), seed=seeds, context=contexts())
@untimed
def test_a_chain_comes_back_bit_for_bit(adapter: Adapter, seed: int, context: Context) -> None:
    check_round_trip(adapter, unit_rows(seed, 3), context)


@every_kind
def test_members_of_other_numbers_have_another_version(kind: str) -> None:
    assert len({alone(kind, seed).version for seed in (3, 4, 8)}) == 3


def rewritten(blob: bytes, change: Callable[[dict[str, Matrix], dict[str, Any]], None]) -> bytes:
    """Change tensors and manifest of a file, and write it as a program that knows the format would."""
    tensors = {name: tensor.copy() for name, tensor in safetensors.numpy.load(blob).items()}
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    manifest = json.loads(header["__metadata__"]["alignstream"])
    change(tensors, manifest)
    written: bytes = safetensors.numpy.save(tensors, metadata={"alignstream": json.dumps(manifest)})
    return written


def test_rewriting_without_a_change_is_accepted() -> None:
    for kind in NAMES:
        from_bytes(rewritten(alone(kind).blob, lambda _tensors, _manifest: None))


def _not_a_number(tensor: Matrix) -> Matrix:
    tensor.flat[0] = np.nan
    return tensor


WRONG_TENSORS: Mapping[str, Callable[[Matrix], Any]] = {
    "one dimension more": lambda tensor: tensor[None],
    "one dimension less": lambda tensor: tensor.reshape(-1) if tensor.ndim > 1 else tensor[:1].reshape(()),
    "a number short": lambda tensor: np.ascontiguousarray(tensor[..., :-1]),
    "no numbers": lambda tensor: tensor[..., :0],
    "float64": lambda tensor: tensor.astype(np.float64),
    "float16": lambda tensor: tensor.astype(np.float16),
    "whole numbers": lambda tensor: tensor.astype(np.int32),
    "not a number": _not_a_number,
    "infinite": lambda tensor: np.full_like(tensor, np.inf),
}
KINDS_AND_TENSORS = [(kind, name) for kind in NAMES for name in example_of(kind, 3).tensors()]


@pytest.mark.parametrize(("kind", "name"), KINDS_AND_TENSORS)
@pytest.mark.parametrize("wrong", WRONG_TENSORS)
def test_a_wrong_tensor_is_refused(kind: str, name: str, wrong: str) -> None:
    step = example_of(kind, 3)
    tensors = {key: tensor.copy() for key, tensor in step.tensors().items()}
    tensors[name] = WRONG_TENSORS[wrong](tensors[name])
    # A vector of fewer numbers is one of another dimension: the adapter refuses it.
    with pytest.raises(AdapterCorrupt):
        Adapter(ENCODER, DIM, (make_step(kind, tensors, step.parameters()),))

    def change(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored[f"0.{name}"] = np.ascontiguousarray(tensors[name])

    with pytest.raises(AdapterCorrupt):
        from_bytes(rewritten(alone(kind).blob, change))


@pytest.mark.parametrize(("kind", "name"), KINDS_AND_TENSORS)
def test_a_missing_or_surplus_tensor_is_refused(kind: str, name: str) -> None:
    step = example_of(kind, 3)
    missing = {key: tensor for key, tensor in step.tensors().items() if key != name}
    surplus = {**step.tensors(), "more": rows(1, 1)}
    for tensors in (missing, surplus):
        with pytest.raises(AdapterCorrupt, match="needs tensors"):
            make_step(kind, tensors, step.parameters())

    def lose(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        del stored[f"0.{name}"]

    def add(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["9.more"] = rows(1, 1)

    with pytest.raises(AdapterCorrupt, match="lacks tensor"):
        from_bytes(rewritten(alone(kind).blob, lose))
    with pytest.raises(AdapterCorrupt, match="unused tensors"):
        from_bytes(rewritten(alone(kind).blob, add))


#: By the type that JSON gives a parameter: what must not stand there.
WRONG_LISTS: list[Any] = [
    None, "de", 1.5, {}, [], ["de-Latn"], [None] * 7, [["de"]] * 7, [{}] * 7, [1.5, *range(6)], [-1] * 7, [True] * 7,
]  # fmt: skip
WRONG_FLOATS: list[Any] = [None, "0.1", True, [], float("nan"), float("inf"), -1.0, -1, 1e300, 10**400]
PARAMETERS = [(kind, name) for kind in NAMES for name in example_of(kind, 3).parameters()]


@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_a_wrong_parameter_is_refused(kind: str, name: str) -> None:
    step = example_of(kind, 3)
    wrongs = WRONG_LISTS if isinstance(step.parameters()[name], list) else WRONG_FLOATS
    for wrong in wrongs:
        with pytest.raises(AdapterCorrupt):
            make_step(kind, step.tensors(), {**step.parameters(), name: wrong})
    missing = {key: value for key, value in step.parameters().items() if key != name}
    with pytest.raises(AdapterCorrupt, match="needs parameters"):
        make_step(kind, step.tensors(), missing)


@every_kind
def test_a_surplus_parameter_and_an_unknown_kind_are_refused(kind: str) -> None:
    step = example_of(kind, 3)
    with pytest.raises(AdapterCorrupt, match="needs parameters"):
        make_step(kind, step.tensors(), {**step.parameters(), "more": 1.0})
    with pytest.raises(AdapterCorrupt, match="unknown kind"):
        make_step(f"{kind}-2", step.tensors(), step.parameters())


@pytest.mark.parametrize("kind", [kind for kind in NAMES if "languages" in example_of(kind).parameters()])
def test_a_language_named_twice_is_refused(kind: str) -> None:
    step = example_of(kind, 3)
    names = step.parameters()["languages"]
    with pytest.raises(AdapterCorrupt):
        make_step(kind, step.tensors(), {**step.parameters(), "languages": [names[0], *names[:-1]]})


def test_whole_numbers_are_numbers() -> None:
    step = example_of(TranslationMemory.kind, 3)
    made = make_step(step.kind, step.tensors(), {"temperature": 1, "weight": 1})
    assert made.parameters() == {"temperature": 1.0, "weight": 1.0}


@every_kind
def test_another_golden_vector_is_refused(kind: str) -> None:
    blob = alone(kind, seed=4).blob

    def other(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["golden.output"] = stored["golden.output"][::-1].copy()

    def short(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["golden.output"] = stored["golden.output"][:-1].copy()

    def lost(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        del stored["golden.output"]

    def nan(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        stored["golden.output"][0] = np.nan

    for change in (other, short, lost, nan):
        with pytest.raises(AdapterCorrupt, match="golden"):
            from_bytes(rewritten(blob, change))


@pytest.mark.parametrize("kind", [kind for kind in NAMES if not example_of(kind).own_languages])
def test_other_numbers_under_the_same_golden_vector_are_refused(kind: str) -> None:
    """Not so for maps of single languages: the golden vector has no tag. Their sha256 is all that tells."""
    other = example_of(kind, 9).tensors()

    def change(stored: dict[str, Matrix], _manifest: dict[str, Any]) -> None:
        for name, tensor in other.items():
            stored[f"0.{name}"] = np.ascontiguousarray(tensor)

    with pytest.raises(AdapterCorrupt, match="golden"):
        from_bytes(rewritten(alone(kind, seed=4).blob, change))
