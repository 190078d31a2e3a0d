"""What is known about a text besides its vector, and the hyper-parameters chosen from it.

``choose`` is pure: the same message and adapter give the same numbers, each with its reason. Overrides in a message
always apply, and give its vector another ``space``.
"""

import dataclasses
from typing import Final

#: Number of texts behind a prototype at which a tag counts half.
SHRINKAGE_TEXTS: Final = 20.0
#: Bounds of a temperature override: below them attention is one-hot, above them uniform.
MIN_TEMPERATURE: Final = 0.001
MAX_TEMPERATURE: Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What a message says about its text.

    Parameters
    ----------
    language : str, optional
        Tag of the text's language. It is evidence, not an order: see ``PrototypeAttention``.
    strength, shrinkage, temperature : float, optional
        Overrides of the hyper-parameters.
    """

    language: str | None = None
    strength: float | None = None
    shrinkage: float | None = None
    temperature: float | None = None

    @property
    def overrides(self) -> dict[str, float]:
        """The hyper-parameters that the message sets, by name; part of its ``space``."""
        named = {"strength": self.strength, "shrinkage": self.shrinkage, "temperature": self.temperature}
        # Added to 0.0, -0.0 is 0.0: equal numbers are one space.
        return {name: 0.0 + value for name, value in named.items() if value is not None}


#: Nothing is known about the text.
NEUTRAL: Final = Context()


@dataclasses.dataclass(frozen=True, slots=True)
class KnownLanguage:
    """What an adapter knows about the language of a message.

    Parameters
    ----------
    language : str, optional
        The adapter's key for it; None if the adapter does not know it, or the message has no tag.
    n_texts : int
        Number of texts behind its prototype.
    temperature : float
        Attention temperature that the adapter was fitted with.
    """

    language: str | None = None
    n_texts: int = 0
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class HyperParameter:
    """A hyper-parameter and the reason for its value."""

    value: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class HyperParameters:
    """The hyper-parameters of one text.

    Parameters
    ----------
    strength : HyperParameter
        From 0 (as encoded) to 1 (the whole adapter).
    shrinkage : HyperParameter
        From 0 (the tag is ignored) to 1 (its evidence counts in full).
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
        What the message says about its text.
    known : KnownLanguage
        What the adapter knows about the text's language.

    Returns
    -------
    HyperParameters
        The message's overrides; otherwise strength 1, the adapter's temperature, and shrinkage ``n / (n + 20)``
        for a prototype built from n texts.

    Examples
    --------
    >>> choose(Context(language="de"), KnownLanguage("de-Latn", n_texts=60)).shrinkage
    HyperParameter(value=0.75, reason='the prototype of de-Latn is built from 60 texts')
    """
    own = "set by the message"
    strength = (
        HyperParameter(1.0, "the whole adapter")
        if context.strength is None
        else HyperParameter(context.strength, own)
    )
    temperature = (
        HyperParameter(known.temperature, "the adapter's own temperature")
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
            value, f"the prototype of {known.language} is built from {known.n_texts} texts"
        )
    return HyperParameters(strength=strength, shrinkage=shrinkage, temperature=temperature)
