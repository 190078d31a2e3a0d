"""The state of a tenant as bytes, in sections, so that unchanged sections are not written again."""

import dataclasses
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from alignstream.models.arrays import Matrix16, Vector32
from alignstream.models.errors import AlignstreamError, PackedCorrupt
from alignstream.models.learner.drift import Finding
from alignstream.models.learner.key_quota import KeyQuota
from alignstream.models.learner.means import RunningMeans
from alignstream.models.learner.observed import Example, Pair, Side
from alignstream.models.learner.tenant_state import Recent, TenantState
from alignstream.models.packed import pack, unpack
from alignstream.models.serving.epoch import MeanKey

FORMAT: Final = "alignstream.tenant-state/1"
SECTIONS: Final = ("core", "bank", "pairs", "examples")
MAX_SECTION_BYTES: Final = 16 * 1024 * 1024

#: Counters and flags of the state that are JSON values already.
_PLAIN: Final = (
    "n_texts", "next_at", "n_seen", "n_capped", "number", "n_since", "n_feedback", "suspended", "is_frozen",
    "frozen_languages", "n_drifts", "n_calm", "requested_reason",
)  # fmt: skip


def to_sections(state: TenantState) -> dict[str, bytes]:
    """Serialise a state into bytes by section name; equal states give equal bytes."""
    numbers, vectors = state.drift.state()
    recent = state.recent
    core = pack(
        {
            "format": FORMAT,
            "dim": state.dim,
            "plain": {name: getattr(state, name) for name in _PLAIN},
            "doubtful": sorted(state.doubtful.items()),
            "counts": [[*key, n, state.counts_since[key]] for key, n in sorted(state.counts.items())],
            "drift": numbers,
            "finding": None if state.last_finding is None else dataclasses.astuple(state.last_finding),
            "key_quota": state.key_quota.state(),
            "languages": state.means.languages,
            "recent": [[*text.mean_key, text.key, text.is_new_key] for text in recent],
        },
        {
            "means": state.means.means,
            "weights": state.means.weights,
            "recent": _stacked([text.vector for text in recent], state.dim, np.float32),
            **{f"drift.{name}": vector for name, vector in vectors.items()},
        },
    )
    bank_languages, bank = state.bank.stacked(state.dim)
    pairs, examples = list(state.pairs.values()), list(state.examples.values())
    return {
        "core": core,
        "bank": pack({"languages": bank_languages}, {"vectors": bank}),
        "pairs": pack(
            {
                "ids": [pair.id for pair in pairs],
                "sides": [
                    [[side.language, side.text] for side in (pair.source, pair.target)] for pair in pairs
                ],
            },
            {
                "sources": _stacked([pair.source.vector for pair in pairs], state.dim, np.float16),
                "targets": _stacked([pair.target.vector for pair in pairs], state.dim, np.float16),
            },
        ),
        "examples": pack(
            {
                "fields": [
                    [example.id, example.label_set, example.label, example.language] for example in examples
                ]
            },
            {"vectors": _stacked([example.vector for example in examples], state.dim, np.float16)},
        ),
    }


def from_sections(sections: Mapping[str, bytes]) -> TenantState:
    """Read a state from its sections.

    Raises
    ------
    PackedCorrupt
        A section is missing or damaged, or its parts do not match.
    """
    read = {}
    for name in SECTIONS:
        if name not in sections:
            raise PackedCorrupt(f"a tenant's state lacks section {name!r}")
        read[name] = unpack(
            sections[name], what=f"section {name!r} of a tenant's state", max_bytes=MAX_SECTION_BYTES
        )
    try:
        return _read(read)
    except (
        KeyError, TypeError, ValueError, OverflowError, IndexError, AttributeError, AlignstreamError,
    ) as error:  # fmt: skip
        raise PackedCorrupt(
            f"a tenant's state is damaged: {type(error).__name__}: {str(error)[:200]}"
        ) from error


def _read(sections: dict[str, tuple[dict[str, Any], dict[str, NDArray[Any]]]]) -> TenantState:
    values, arrays = sections["core"]
    if values["format"] != FORMAT:
        raise PackedCorrupt(f"a tenant's state has format {str(values['format'])[:40]!r}, not {FORMAT!r}")
    state = TenantState(int(values["dim"]))
    for name, (_, section_arrays) in sections.items():
        for kind, array in section_arrays.items():
            if kind != "weights" and (array.shape[-1:] != (state.dim,) or not np.all(np.isfinite(array))):
                raise PackedCorrupt(
                    f"array {kind!r} of section {name!r} has shape {array.shape}, or is not finite"
                )
    for name in _PLAIN:
        setattr(state, name, values["plain"][name])
    state.counts = Counter({MeanKey(*key): n for *key, n, _ in values["counts"]})
    state.counts_since = Counter({MeanKey(*key): n for *key, _, n in values["counts"] if n})
    state.doubtful = Counter(dict(map(tuple, values["doubtful"])))
    drift = {name.removeprefix("drift."): arrays[name] for name in arrays if name.startswith("drift.")}
    state.drift.restore(values["drift"], drift)
    state.last_finding = None if values["finding"] is None else Finding(*values["finding"])
    state.key_quota = KeyQuota.restored(values["key_quota"])
    state.means = RunningMeans.restored(
        state.dim,
        tuple(MeanKey(*key) for key in values["languages"]),
        arrays["means"],
        arrays["weights"],
    )
    state.recent = deque(
        (
            Recent(MeanKey(*mean_key), vector, key, is_new_key)
            for (*mean_key, key, is_new_key), vector in zip(values["recent"], arrays["recent"], strict=True)
        ),
        maxlen=state.recent.maxlen,
    )
    bank_values, bank_arrays = sections["bank"]
    for language, vector in zip(bank_values["languages"], bank_arrays["vectors"], strict=True):
        state.bank.add(language, vector)
    values, arrays = sections["pairs"]
    state.pairs = OrderedDict(
        (pair_id, Pair(pair_id, _side(sides[0], source), _side(sides[1], target)))
        for pair_id, sides, source, target in zip(
            values["ids"], values["sides"], arrays["sources"], arrays["targets"], strict=True
        )
    )
    values, arrays = sections["examples"]
    state.examples = OrderedDict(
        (example_id, Example(example_id, label_set, label, vector.astype(np.float32), language))
        for (example_id, label_set, label, language), vector in zip(
            values["fields"], arrays["vectors"], strict=True
        )
    )
    return state


def _side(fields: Sequence[Any], vector: Matrix16) -> Side:
    language, text = fields
    return Side(vector.astype(np.float32), language, text)


def _stacked(vectors: Sequence[Vector32], dim: int, kind: type) -> NDArray[Any]:
    stacked: NDArray[Any] = np.zeros((len(vectors), dim), dtype=kind)
    for row, vector in enumerate(vectors):
        stacked[row] = vector
    return stacked
