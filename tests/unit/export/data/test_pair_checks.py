"""What is refused of pairs for their vectors alone, with the line from which on they are wrong."""

import dataclasses

import numpy as np
import pytest

from alignstream.export.data.pair_checks import PairVectors, check_pairs
from alignstream.export.data.pairs import Pairs
from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.steps.prototypes import PrototypeAttention
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError

DIM = 32
PLACES = np.random.default_rng(5).normal(size=(3, DIM)) / np.sqrt(DIM)
LANGUAGES = ("sw-Latn", "en-Latn", "de-Latn")


def side(language: int, n: int, *, noise: float, seed: int = 0) -> Matrix:
    """Return unit vectors of n meanings in a language; the noise is its own."""
    meanings = np.random.default_rng(seed).normal(size=(n, DIM)) / np.sqrt(DIM)
    own = np.random.default_rng(100 + language).normal(size=(n, DIM)) / np.sqrt(DIM)
    X = meanings + noise * own + PLACES[language]
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def pairs(n: int, *, noise: float = 0.5, tags: tuple[str, str] = ("sw", "en")) -> PairVectors:
    found = Pairs("p.tsv", *tags, [""] * n, [""] * n, list(range(2, n + 2)))
    return PairVectors(found, side(0, n, noise=noise), side(1, n, noise=noise))


def base(*keep: int) -> Adapter:
    attention = PrototypeAttention(
        means=PLACES[list(keep)].astype(np.float32),
        languages=tuple(LANGUAGES[place] for place in keep),
        counts=(400,) * len(keep),
        spreads=np.ones(len(keep), dtype=np.float32),
        temperature=0.05,
        tag_evidence=4.0,
    )
    return Adapter(encoder="e" * 64, dim=DIM, steps=(attention,))


@pytest.mark.parametrize("n", [2, 8, 40, 300])
@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_translations_pass_even_where_the_encoder_hardly_knows_the_language(n: int, noise: float) -> None:
    check_pairs(pairs(n, noise=noise), base(0, 1))
    check_pairs(pairs(n, noise=noise), identity("e" * 64, DIM))


@pytest.mark.parametrize("known", [(0, 1), (1, 2), (0, 2)])
def test_swapped_columns_are_refused_also_where_only_one_language_is_known(known: tuple[int, ...]) -> None:
    good = pairs(40)
    swapped = dataclasses.replace(good, source=good.target, target=good.source)
    with pytest.raises(AdapterError, match=r"p\.tsv, line 2: .* sw texts look like en .* columns swapped"):
        check_pairs(swapped, base(*known))
    check_pairs(good, base(*known))


@pytest.mark.parametrize("noise", [0.3, 0.8])
@pytest.mark.parametrize(("n", "at"), [(40, 22), (100, 52), (100, 85), (60, 5)])
@pytest.mark.parametrize("missing", ["source", "target"])
def test_lines_that_slip_from_some_line_on_are_refused_with_that_line(
    n: int, at: int, missing: str, noise: float
) -> None:
    good = pairs(n + 1, noise=noise)
    keep = [line for line in range(n + 1) if line != at]
    slipped = PairVectors(
        Pairs("p.tsv", "sw", "en", [""] * n, [""] * n, list(range(2, n + 2))),
        good.source[keep] if missing == "source" else good.source[:n],
        good.target[keep] if missing == "target" else good.target[:n],
    )
    with pytest.raises(AdapterError, match=r"p\.tsv, line (\d+): from here to line \d+, translations are 1 line"
    ) as refused:  # fmt: skip
        check_pairs(slipped, base(0, 1))
    line = int(str(refused.value).split("line ")[1].split(":")[0])
    assert abs(line - (at + 2)) <= 6
    direction = "later" if missing == "source" else "earlier"
    assert direction in str(refused.value)


def test_a_part_in_another_order_is_refused_with_its_lines() -> None:
    good = pairs(120)
    mixed = np.concatenate([good.target[:60], good.target[60:][::-1]])
    with pytest.raises(AdapterError, match=r"p\.tsv, line (\d+): from here to line") as refused:
        check_pairs(dataclasses.replace(good, target=mixed), base(0, 1))
    assert abs(int(str(refused.value).split("line ")[1].split(":")[0]) - 62) <= 6


def test_texts_that_have_nothing_to_do_with_each_other_are_refused() -> None:
    good = pairs(40)
    other = dataclasses.replace(good, target=side(1, 40, noise=0.5, seed=9))
    with pytest.raises(AdapterError, match="these are not translations"):
        check_pairs(other, base(0, 1))
