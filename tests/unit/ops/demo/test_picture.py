from pathlib import Path

from alignstream.ops.demo import picture
from alignstream.ops.demo.translation_search import SearchHits, StreamQuery


def judged(
    position: int, language: str, static: float, following: float, domain: str = "clinic"
) -> StreamQuery:
    if language == "en":
        pair = [SearchHits(value, None, {"lg": value, "de": 1.0}) for value in (static, following)]
    else:
        pair = [SearchHits(value, value, {}) for value in (static, following)]
    return StreamQuery(position, domain, language, 1, *pair)


def test_the_picture_is_drawn_from_few_texts_too(tmp_path: Path) -> None:
    items = [judged(0, "de", 1.0, 1.0, "everyday"), judged(1, "de", 0.5, 0.5), judged(2, "lg", 0.5, 0.6)]
    picture.draw_stream(tmp_path / "x.png", items, [(1, "drift")], newcomer="lg", name="Luganda")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
