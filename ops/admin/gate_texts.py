"""Everyday texts, parallel in many languages and written for this project: what an adapter is judged on.

Nothing was fitted on them. The demonstration sends them through the service.
"""

import importlib.resources

import msgspec


class Language(msgspec.Struct, frozen=True):
    """What a language tag stands for."""

    name: str
    script: str


class Text(msgspec.Struct, frozen=True):
    """One text in every language, by tag, and what it is about where that is told."""

    key: str
    text: dict[str, str]
    topic: str = ""


class Sample(msgspec.Struct, frozen=True):
    """The file ``gate-texts.json``."""

    about: str
    labels: tuple[str, ...]
    template: str
    languages: dict[str, Language]
    texts: tuple[Text, ...]


def load_texts(texts_per_topic: int | None = None) -> Sample:
    """Return so many texts of each topic, or all."""
    content = (importlib.resources.files("alignstream.ops.admin") / "gate-texts.json").read_bytes()
    sample = msgspec.json.decode(content, type=Sample)
    if texts_per_topic is None:
        return sample
    chosen = [
        text
        for label in sample.labels
        for text in [item for item in sample.texts if item.topic == label][:texts_per_topic]
    ]
    return msgspec.structs.replace(sample, texts=tuple(chosen))
