"""People's own streams as segments to replay."""

from collections.abc import Callable, Sequence

import numpy as np

from alignstream.export.data.selection import find_language
from alignstream.export.data.stream_file import StreamText
from alignstream.export.evaluate.prequential.stream_index import NO_GROUP, Messages
from alignstream.export.evaluate.prequential.stream_replay import Segment
from alignstream.models.adapter.languages import same_language
from alignstream.models.arrays import Matrix


def own_segments(
    texts: Sequence[StreamText],
    embed: Callable[[Sequence[str]], Matrix],
    *,
    pivot: str | None,
    uses_tags: bool,
    where: str,
) -> tuple[Segment, ...]:
    """Return the segments of people's own texts.

    Parameters
    ----------
    texts : sequence of StreamText
        In the order of the log.
    embed : callable
        Texts to unit vectors of shape (n, dim), float32.
    pivot : str, optional
        Tag of the language that retrieval goes to and from. Default: ``en`` where it is there, else the first.
    uses_tags : bool
        Whether messages name their language.
    where : str
        The file, for messages.

    Raises
    ------
    TextError
        The pivot does not exist.
    """
    languages = list(dict.fromkeys(text.language for text in texts if text.language is not None))
    if pivot is None:
        english = [name for name in languages if same_language(name, "en")]
        chosen = english[0] if english else languages[0]
    else:
        chosen = find_language(pivot, languages, where)
    X = embed([text.text for text in texts])
    numbers: dict[tuple[str, str], int] = {}
    segments = []
    for name in dict.fromkeys(text.segment for text in texts):
        rows = [row for row, text in enumerate(texts) if text.segment == name]
        segments.append(
            Segment(
                name=name,
                pivot=chosen,
                messages=Messages(
                    vectors=X[rows],
                    languages=tuple(texts[row].language or "no tag" for row in rows),
                    tags=tuple(texts[row].language if uses_tags else None for row in rows),
                    groups=np.array([_group(texts[row], numbers) for row in rows], dtype=np.int64),
                ),
            )
        )
    return tuple(segments)


def _group(text: StreamText, numbers: dict[tuple[str, str], int]) -> int:
    if text.group is None or text.language is None:
        return NO_GROUP
    return numbers.setdefault((text.segment, text.group), len(numbers))
