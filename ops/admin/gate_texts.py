"""Everyday texts, each in 27 languages, written for this project: the gate judges adapters by them.

Nothing was fitted on them. The demonstration sends them through the service.
"""

import importlib.resources

import msgspec


class LanguageName(msgspec.Struct, frozen=True):
    """What a language tag stands for."""

    name: str
    script: str


class ParallelText(msgspec.Struct, frozen=True):
    """One text in every language, by tag, and its topic if it has one."""

    key: str
    text: dict[str, str]
    topic: str = ""


class GateTexts(msgspec.Struct, frozen=True):
    """The file ``gate-texts.json``."""

    about: str
    labels: tuple[str, ...]
    template: str
    languages: dict[str, LanguageName]
    texts: tuple[ParallelText, ...]


def load_texts(texts_per_topic: int | None = None) -> GateTexts:
    """Return all texts, or the first few of each topic."""
    content = (importlib.resources.files("alignstream.ops.admin") / "gate-texts.json").read_bytes()
    gate_texts = msgspec.json.decode(content, type=GateTexts)
    if texts_per_topic is None:
        return gate_texts
    chosen = [
        text
        for label in gate_texts.labels
        for text in [text for text in gate_texts.texts if text.topic == label][:texts_per_topic]
    ]
    return msgspec.structs.replace(gate_texts, texts=tuple(chosen))
