"""Every kind of member by its name: how one is made again from what a file holds."""

from collections.abc import Mapping
from typing import Any, Final

from alignstream.models.alignment.linear import LanguageMaps, LinearMap
from alignstream.models.alignment.members import Centre, Matrix, Member, RemoveSubspace
from alignstream.models.alignment.memory import TranslationMemory
from alignstream.models.alignment.prototypes import LanguageCentre, PrototypeAttention
from alignstream.models.errors import AdapterCorrupt

#: By kind: the class, the tensors it needs, and its parameters with the types that JSON gives them.
_KINDS: Final[Mapping[str, tuple[type[Any], tuple[str, ...], Mapping[str, type]]]] = {
    Centre.kind: (Centre, ("mean",), {}),
    RemoveSubspace.kind: (RemoveSubspace, ("basis",), {}),
    LanguageCentre.kind: (LanguageCentre, ("means",), {"languages": list, "counts": list}),
    PrototypeAttention.kind: (
        PrototypeAttention,
        ("means", "spreads"),
        {"languages": list, "counts": list, "temperature": float, "tag_evidence": float, "common": float},
    ),
    LinearMap.kind: (LinearMap, ("matrix",), {}),
    LanguageMaps.kind: (LanguageMaps, ("left", "right"), {"languages": list}),
    TranslationMemory.kind: (
        TranslationMemory,
        ("keys", "values"),
        {"temperature": float, "weight": float},
    ),
}


def member(kind: str, tensors: Mapping[str, Matrix], parameters: Mapping[str, Any]) -> Member:
    """Make the member of a kind from what is stored of it.

    Raises
    ------
    AdapterCorrupt
        The kind is unknown, or its tensors or parameters are missing, surplus or malformed.
    """
    if kind not in _KINDS:
        raise AdapterCorrupt(
            f"adapter member of unknown kind {kind!r}; a newer version of alignstream wrote it?"
        )
    made, names, types = _KINDS[kind]
    if set(tensors) != set(names):
        raise AdapterCorrupt(f"adapter member {kind!r} needs tensors {names}, but has {sorted(tensors)}")
    if set(parameters) != set(types):
        raise AdapterCorrupt(
            f"adapter member {kind!r} needs parameters {sorted(types)}, but has {sorted(parameters)}"
        )
    values: dict[str, Any] = {}
    for name, wanted in types.items():
        value: Any = parameters[name]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            try:
                value = float(value)
            except OverflowError as error:
                raise AdapterCorrupt(f"adapter member {kind!r}: {name} is too large a number") from error
        if not isinstance(value, wanted):
            raise AdapterCorrupt(f"adapter member {kind!r}: {name} must be a {wanted.__name__}")
        values[name] = tuple(value) if isinstance(value, list) else value
    item: Member = made(**tensors, **values)
    return item
