"""The laws of adapters: pure, exact in any batch, bit for bit on disk, and never silently another one."""

import functools

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alignstream.models.adapter import adapter_file
from alignstream.models.adapter.adapter import Adapter, from_bytes, identity, space
from alignstream.models.adapter.context import Context
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.subspace import RemoveSubspace
from alignstream.models.arrays import Matrix, Vector32
from alignstream.models.errors import AdapterCorrupt, AdapterError, AdapterMismatch
from alignstream.models.fit.projection import fit_default, language_means

ENCODER = "e" * 64
DIM = 24
#: Length of a float32 vector that was normalised in float64.
MAX_NORM_ERROR = 1e-6
#: A projection applied twice, through float32 in between.
MAX_FLOAT32_ERROR = 1e-6


def unit_rows(n: int, seed: int, dim: int = DIM) -> Matrix:
    X = np.random.default_rng(seed).standard_normal((n, dim))
    rows: Matrix = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    return rows


@functools.cache
def fitted(rank: int = 3, seed: int = 0, dim: int = DIM) -> Adapter:
    means = np.random.default_rng(seed).standard_normal((8, dim)) * 0.1
    return Adapter(encoder=ENCODER, dim=dim, steps=fit_default(means, rank=rank), report={"rank": rank})


#: A shared machine may pause any example; laws are about results, not time.
untimed = settings(deadline=None)
seeds = st.integers(0, 2**32 - 1)
ranks = st.integers(0, 7)
strengths = st.floats(0.0, 1.0)


@given(seed=seeds, n=st.integers(0, 9), rank=ranks, strength=strengths)
@untimed
def test_a_batch_gives_the_same_bytes_as_its_rows_one_by_one(
    seed: int, n: int, rank: int, strength: float
) -> None:
    X = unit_rows(n, seed)
    batch = fitted(rank).transform_many(X, Context(strength=strength))
    singles = [fitted(rank).transform_one(x, Context(strength=strength)) for x in X]
    assert batch.dtype == np.float32
    assert batch.shape == X.shape
    assert [row.tobytes() for row in batch] == [row.tobytes() for row in singles]


@given(seed=seeds, rank=ranks)
@untimed
def test_the_order_and_memory_layout_of_a_batch_change_nothing(seed: int, rank: int) -> None:
    X = unit_rows(7, seed)
    order = np.random.default_rng(seed).permutation(7)
    expected = fitted(rank).transform_many(X)[order]
    assert fitted(rank).transform_many(np.asfortranarray(X[order])).tobytes() == expected.tobytes()


@given(seed=seeds, strength=strengths)
@untimed
def test_the_identity_changes_nothing(seed: int, strength: float) -> None:
    X = unit_rows(5, seed)
    unchanged = identity(ENCODER, DIM)
    assert unchanged.is_identity
    assert unchanged.transform_many(X, Context(strength=strength)).tobytes() == X.tobytes()
    assert from_bytes(unchanged.blob).transform_many(X).tobytes() == X.tobytes()


@given(seed=seeds, rank=ranks, strength=strengths)
@untimed
def test_aligned_vectors_have_length_one(seed: int, rank: int, strength: float) -> None:
    norms = np.linalg.norm(
        fitted(rank).transform_many(unit_rows(5, seed), Context(strength=strength)).astype(np.float64), axis=1
    )
    assert np.abs(norms - 1.0).max() <= MAX_NORM_ERROR


@given(seed=seeds, rank=ranks, strength=strengths)
@untimed
def test_inputs_are_never_changed_and_never_handed_back(seed: int, rank: int, strength: float) -> None:
    for adapter in (fitted(rank), identity(ENCODER, DIM)):
        X = unit_rows(4, seed)
        before = X.copy()
        Y = adapter.transform_many(X, Context(strength=strength))
        y = adapter.transform_one(X[0], Context(strength=strength))
        assert X.tobytes() == before.tobytes()
        assert not np.shares_memory(X, Y)
        assert not np.shares_memory(X, y)


@given(seed=seeds)
@untimed
def test_strength_zero_is_raw_and_strength_one_is_the_whole_adapter(seed: int) -> None:
    X = unit_rows(4, seed)
    assert fitted().transform_many(X, Context(strength=0.0)).tobytes() == X.tobytes()
    assert fitted().transform_many(X, Context(strength=1.0)).tobytes() == fitted().transform_many(X).tobytes()


def test_strength_between_lies_between() -> None:
    (x,) = unit_rows(1, 5)
    aligned = fitted().transform_one(x)
    towards = [
        float(fitted().transform_one(x, Context(strength=strength)) @ aligned)
        for strength in (0.0, 0.25, 0.5, 0.75)
    ]
    assert towards == sorted(towards)
    assert towards[0] < towards[-1]


@given(seed=seeds, rank=st.integers(1, 7))
@untimed
def test_removing_a_subspace_twice_is_removing_it_once(seed: int, rank: int) -> None:
    removal = fitted(rank).steps[1]
    x: NDArray[np.float64] = unit_rows(1, seed)[0].astype(np.float64)
    once = removal.transform_one(x)
    assert np.abs(removal.transform_one(once) - once).max() <= MAX_FLOAT32_ERROR
    assert isinstance(removal, RemoveSubspace)
    assert np.abs(removal.basis.astype(np.float64) @ once).max() <= MAX_FLOAT32_ERROR


def test_a_vector_of_which_nothing_is_left_stays_as_it_is() -> None:
    mean = unit_rows(1, 1)[0]
    adapter = Adapter(encoder=ENCODER, dim=DIM, steps=(Centre(mean=mean),))
    assert adapter.transform_one(mean).tobytes() == mean.tobytes()


def test_removed_directions_no_longer_tell_languages_apart() -> None:
    texts = unit_rows(40, 3) * 0.3
    offsets = unit_rows(6, 4) * 0.5
    raw = {f"l{i}": (texts + offset).astype(np.float32) for i, offset in enumerate(offsets)}
    _, means = language_means(raw)
    steps = fit_default(means, rank=5)
    aligned = [steps[-1].transform_one(steps[0].transform_one(mean)) for mean in means]
    assert np.abs(aligned).max() <= MAX_FLOAT32_ERROR


@given(rank=ranks, seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_an_adapter_comes_back_from_its_bytes_bit_for_bit(rank: int, seed: int) -> None:
    adapter = fitted(rank, seed)
    again = from_bytes(adapter.blob, encoder=ENCODER)
    X = unit_rows(6, seed)
    assert again.blob == adapter.blob
    assert (again.version, again.sha256, again.dim, again.report) == (
        adapter.version, adapter.sha256, adapter.dim, adapter.report,
    )  # fmt: skip
    assert again.transform_many(X).tobytes() == adapter.transform_many(X).tobytes()


def test_equal_parameters_give_equal_bytes_and_any_other_report_another_version() -> None:
    first, second = (Adapter(ENCODER, DIM, fitted().steps, report) for report in ({"a": 1}, {"a": 1}))
    assert first.blob == second.blob
    assert Adapter(ENCODER, DIM, fitted().steps, {"a": 2}).version != first.version


def test_an_adapter_of_another_encoder_is_refused() -> None:
    with pytest.raises(AdapterMismatch, match=r"fitted on encoder eeeeeeeeeeee.*alignstream fit attention"):
        from_bytes(fitted().blob, encoder="f" * 64)


def flipped(blob: bytes, position: int, bit: int) -> bytes:
    return blob[:position] + bytes([blob[position] ^ bit]) + blob[position + 1 :]


def test_a_wrong_number_anywhere_in_the_tensors_is_found_by_the_golden_vector() -> None:
    blob = fitted(rank=2, dim=8).blob
    start = 8 + int.from_bytes(blob[:8], "little")
    assert (len(blob) - start) % 4 == 0
    for number in range(start, len(blob), 4):
        with pytest.raises(AdapterCorrupt):  # the highest bit of the exponent: a wildly wrong number
            from_bytes(flipped(blob, number + 3, 0x40))


def test_a_flipped_header_byte_raises_or_shows_in_the_version() -> None:
    adapter = fitted(rank=2, dim=8)
    (x,) = unit_rows(1, 2, dim=8)
    start = 8 + int.from_bytes(adapter.blob[:8], "little")
    n_refused = 0
    for position in range(start):
        try:
            found = from_bytes(flipped(adapter.blob, position, 0x01), encoder=ENCODER)
        except (AdapterCorrupt, AdapterMismatch):
            n_refused += 1
            continue
        # A letter of the report: nothing that the adapter does depends on it.
        assert found.version != adapter.version
        assert found.transform_one(x).tobytes() == adapter.transform_one(x).tobytes()
    assert n_refused >= 0.9 * start


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_refused(keep: int) -> None:
    with pytest.raises(AdapterCorrupt):
        from_bytes(fitted().blob[:keep])


@pytest.mark.parametrize("blob", [b"", b"\x80\x04N.", b"{}", b"\xff" * 64, bytes(64)])
def test_what_is_no_adapter_is_refused(blob: bytes) -> None:
    with pytest.raises(AdapterCorrupt, match="not an adapter file"):
        from_bytes(blob)


def test_safetensors_of_another_program_are_refused() -> None:
    with pytest.raises(AdapterCorrupt, match="not an adapter file"):
        from_bytes(safetensors.numpy.save({"mean": unit_rows(1, 0)[0]}))


def test_an_adapter_larger_than_any_real_one_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(AdapterCorrupt, match="more than the limit"):
        from_bytes(bytes(adapter_file.MAX_ADAPTER_BYTES + 1))


def as_vector(*numbers: float) -> Vector32:
    return np.array(numbers, dtype=np.float32)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(AdapterCorrupt, match="not finite"):
        Centre(mean=as_vector(0.0, number))
    with pytest.raises(AdapterCorrupt, match="not finite"):
        RemoveSubspace(basis=as_vector(1.0, number)[None])
    with pytest.raises(AdapterError, match="language 'de' is not finite"):
        language_means({"de": as_vector(1.0, number)[None], "fr": as_vector(1.0, 0.0)[None]})


def test_a_basis_that_is_not_orthonormal_is_refused() -> None:
    with pytest.raises(AdapterCorrupt, match="not orthonormal"):
        RemoveSubspace(basis=as_vector(1.0, 1.0)[None])


def test_members_of_another_dimension_are_refused() -> None:
    with pytest.raises(AdapterCorrupt, match="has dimension 2, but the adapter has 3"):
        Adapter(encoder=ENCODER, dim=3, steps=(Centre(mean=as_vector(0.0, 1.0)),))


def test_a_language_without_texts_is_refused() -> None:
    with pytest.raises(AdapterError, match="language 'fr' has no text"):
        language_means({"de": unit_rows(2, 0), "fr": unit_rows(0, 0)})


@pytest.mark.parametrize("rank", [-1, 8, 100])
def test_a_rank_out_of_range_is_refused(rank: int) -> None:
    with pytest.raises(AdapterError, match="between 0 and 7"):
        fit_default(np.zeros((8, DIM)), rank=rank)


@given(seed=seeds)
@untimed
def test_the_order_of_languages_does_not_change_the_fit(seed: int) -> None:
    raw = {f"l{i}": unit_rows(4, seed + i) for i in range(5)}
    backwards = dict(reversed(raw.items()))
    names, means = language_means(raw)
    assert names == sorted(raw)
    assert means.tobytes() == language_means(backwards)[1].tobytes()


def test_a_space_is_named_by_encoder_adapter_and_strength() -> None:
    names = {
        space("a", "v1"), space("b", "v1"), space("a", "v2"), space("a", "v1", Context(strength=0.5))
    }  # fmt: skip
    assert len(names) == 4
    assert space("a", "v1", Context(strength=1.0)) == space("a", "v1")
