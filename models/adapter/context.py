"""What is known about one text besides its vector, and the hyper-parameters that follow from it.

``choose`` is pure: the same message under the same adapter gives the same numbers, each with its reason. What
a message overrides it gets, and its vector has another ``space``.
"""

import dataclasses
from typing import Final

#: Texts behind a language's prototype at which its tag counts half.
SHRINKAGE_TEXTS: Final = 20.0
#: Bounds of a message's own temperature: below, the attention is one-hot; above, it is uniform.
MIN_TEMPERATURE: Final = 0.001
MAX_TEMPERATURE: Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What a message says.

    Parameters
    ----------
    language : str, optional
        Tag of the text's language; evidence, not a command: see ``PrototypeAttention``.
    strength, shrinkage, temperature : float, optional
        Overrides of the hyper-parameters.
    """

    language: str | None = None
    strength: float | None = None
    shrinkage: float | None = None
    temperature: float | None = None

    @property
    def overrides(self) -> dict[str, float]:
        """What the message fixes, by name: part of the name of its space."""
        named = {"strength": self.strength, "shrinkage": self.shrinkage, "temperature": self.temperature}
        return {name: float(value) for name, value in named.items() if value is not None}


#: Nothing is known.
NEUTRAL: Final = Context()


@dataclasses.dataclass(frozen=True, slots=True)
class KnownLanguage:
    """What an adapter knows about the language that a message names.

    Parameters
    ----------
    language : str, optional
        The adapter's own name of it; None where it does not know it, or none is named.
    n_texts : int
        Texts behind its prototype.
    temperature : float
        Temperature of attention that the adapter was fitted with.
    """

    language: str | None = None
    n_texts: int = 0
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class HyperParameter:
    """One hyper-parameter and why it has its value."""

    value: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class HyperParameters:
    """What is applied to one text.

    Parameters
    ----------
    strength : HyperParameter
        From 0 (as encoded) to 1 (the whole adapter).
    shrinkage : HyperParameter
        From 0 (the tag counts for nothing) to 1 (its whole evidence).
    temperature : HyperParameter
        Divides similarities before the softmax over prototypes.
    """

    strength: HyperParameter
    shrinkage: HyperParameter
    temperature: HyperParameter


def choose(context: Context, known: KnownLanguage) -> HyperParameters:
    """Choose the hyper-parameters of one text.

    Parameters
    ----------
    context : Context
        What the message says.
    known : KnownLanguage
        What the adapter knows about the language that it names.

    Returns
    -------
    HyperParameters
        The message's overrides; else strength 1, the adapter's temperature, and the shrinkage
        ``n / (n + 20)`` of a prototype that n texts are behind.
    """
    own = "the message asks for it"
    strength = (
        HyperParameter(1.0, "the whole adapter")
        if context.strength is None
        else HyperParameter(context.strength, own)
    )
    temperature = (
        HyperParameter(known.temperature, "as the adapter was fitted")
        if context.temperature is None
        else HyperParameter(context.temperature, own)
    )
    if context.shrinkage is not None:
        shrinkage = HyperParameter(context.shrinkage, own)
    elif context.language is None:
        shrinkage = HyperParameter(0.0, "the message names no language")
    elif known.language is None:
        shrinkage = HyperParameter(0.0, f"the adapter does not know language {context.language!r}")
    else:
        value = known.n_texts / (known.n_texts + SHRINKAGE_TEXTS)
        shrinkage = HyperParameter(
            value, f"{known.n_texts} texts are behind the prototype of {known.language}"
        )
    return HyperParameters(strength=strength, shrinkage=shrinkage, temperature=temperature)
