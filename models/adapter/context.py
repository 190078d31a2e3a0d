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
class State:
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
class Choice:
    """One hyper-parameter and why it has its value."""

    value: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class HyperParameters:
    """What is applied to one text.

    Parameters
    ----------
    strength : Choice
        From 0 (as encoded) to 1 (the whole adapter).
    shrinkage : Choice
        From 0 (the tag counts for nothing) to 1 (its whole evidence).
    temperature : Choice
        Divides similarities before the softmax over prototypes.
    """

    strength: Choice
    shrinkage: Choice
    temperature: Choice


def choose(context: Context, state: State) -> HyperParameters:
    """Choose the hyper-parameters of one text.

    Parameters
    ----------
    context : Context
        What the message says.
    state : State
        What the adapter knows about the language that it names.

    Returns
    -------
    HyperParameters
        The message's overrides; else strength 1, the adapter's temperature, and the shrinkage
        ``n / (n + 20)`` of a prototype that n texts are behind.
    """
    own = "the message asks for it"
    strength = Choice(1.0, "the whole adapter") if context.strength is None else Choice(context.strength, own)
    temperature = (
        Choice(state.temperature, "as the adapter was fitted")
        if context.temperature is None
        else Choice(context.temperature, own)
    )
    if context.shrinkage is not None:
        shrinkage = Choice(context.shrinkage, own)
    elif context.language is None:
        shrinkage = Choice(0.0, "the message names no language")
    elif state.language is None:
        shrinkage = Choice(0.0, f"the adapter does not know language {context.language!r}")
    else:
        value = state.n_texts / (state.n_texts + SHRINKAGE_TEXTS)
        shrinkage = Choice(value, f"{state.n_texts} texts are behind the prototype of {state.language}")
    return HyperParameters(strength=strength, shrinkage=shrinkage, temperature=temperature)
