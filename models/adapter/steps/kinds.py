"""Every kind of step by name, and how to rebuild a step from a file."""

import types
import typing
from collections.abc import Mapping
from typing import Any, Final

from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.adapter.steps.language_centre import LanguageCentre
from alignstream.models.adapter.steps.language_maps import LanguageMaps
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.adapter.steps.memory import TranslationMemory
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.adapter.steps.step import Step, parameter_names
from alignstream.models.adapter.steps.subspace import RemoveSubspace
from alignstream.models.adapter.steps.whitening import Whitening
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterCorrupt

#: The kinds of step, by their name in adapter files. A new kind is one line here.
KINDS: Final[Mapping[str, type[Step]]] = types.MappingProxyType({
    step.kind: step
    for step in (
        Centre,
        RemoveSubspace,
        LanguageCentre,
        PrototypeAttention,
        LinearMap,
        LanguageMaps,
        TranslationMemory,
        Whitening,
    )
})  # fmt: skip


def make_step(kind: str, tensors: Mapping[str, Matrix], parameters: Mapping[str, Any]) -> Step:
    """Rebuild a step from its stored tensors and parameters.

    Raises
    ------
    AdapterCorrupt
        The kind is unknown, or its tensors or parameters are missing, surplus or malformed.
    """
    if kind not in KINDS:
        raise AdapterCorrupt(
            f"adapter step of unknown kind {kind!r}; was it written by a newer version of alignstream?"
        )
    made = KINDS[kind]
    if set(tensors) != set(made.tensor_names):
        raise AdapterCorrupt(
            f"adapter step {kind!r} needs tensors {made.tensor_names}, but has {sorted(tensors)}"
        )
    names = parameter_names(made)
    if set(parameters) != set(names):
        raise AdapterCorrupt(
            f"adapter step {kind!r} needs parameters {sorted(names)}, but has {sorted(parameters)}"
        )
    hints = typing.get_type_hints(made)
    return made(**tensors, **{name: _read(kind, name, parameters[name], hints[name]) for name in names})


def _read(kind: str, name: str, value: Any, wanted: Any) -> Any:  # noqa: ANN401 (JSON to the type of a field)
    """Convert a parameter from JSON to the type of its field: lists to tuples, integers to floats."""
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise AdapterCorrupt(f"adapter step {kind!r}: {name} is too large for a float") from error
    stored = wanted if wanted is float else list
    if not isinstance(value, stored):
        raise AdapterCorrupt(f"adapter step {kind!r}: {name} must be a {stored.__name__}")
    return tuple(value) if isinstance(value, list) else value
