"""What people's feedback changes at once, on texts that lie as near to each other as those of one domain do."""

import numpy as np
import pytest

from alignstream.models.arrays import Matrix
from alignstream.models.serving.label_feedback import LABEL_TEXTS, MAX_LEAD, corrected_prototypes
from alignstream.models.serving.memory_attention import MEMORY_SHARE, NO_MATCH, MemoryAttention

DIM = 384
#: Median cosine of unrelated texts of one domain under the shipped adapter (TICO-19).
OF_A_DOMAIN = 0.78
#: What float32 leaves of an equation.
MAX_ERROR = 1e-5


def unit(X: Matrix) -> Matrix:
    found: Matrix = (X / np.linalg.norm(X, axis=-1, keepdims=True)).astype(np.float32)
    return found


def texts(n: int, seed: int) -> Matrix:
    """Return unit vectors whose cosines lie around that of a domain."""
    rng = np.random.default_rng(seed)
    common = unit(np.ones((1, DIM), dtype=np.float32))
    own = unit(rng.standard_normal((n, DIM)))
    return unit(np.sqrt(OF_A_DOMAIN) * common + np.sqrt(1 - OF_A_DOMAIN) * own)


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_a_source_that_is_asked_for_itself_is_found_among_many_of_its_domain(n: int) -> None:
    keys, values = texts(n, 1), texts(n, 2)
    recall = MemoryAttention(keys, values, ("de-Latn",) * n)
    for row in range(0, n, max(1, n // 10)):
        moved = recall.moved(keys[row], "de-Latn")
        assert int((values @ moved).argmax()) == row
        expected = unit(keys[row] + MEMORY_SHARE * (values[row] - keys[row]))
        assert float(moved @ expected) > 0.98
        assert int((keys @ moved).argmax()) == row, "what is written in the query's language is found as well"


def test_a_few_pairs_of_the_domain_move_no_other_text_of_it() -> None:
    keys, values, others = texts(10, 1), texts(10, 2), texts(200, 3)
    assert float((others @ keys.T).max()) < NO_MATCH
    recall = MemoryAttention(keys, values, ("de-Latn",) * 10)
    stays = [float(recall.moved(z, "de-Latn") @ z) for z in others]
    assert min(stays) > 0.999


def moved_by(label: str, n: int, prototypes: Matrix, examples: Matrix, others: int = 0) -> Matrix:
    """Return prototypes of a, b and c after n examples of one label, and some of each other."""
    given = [label] * n + [name for name in "abc" if name != label for _ in range(others)]
    return corrected_prototypes(prototypes, "abc", examples[: len(given)], given)


def test_the_only_label_with_examples_counts_few_of_them() -> None:
    prototypes, examples = texts(3, 4), texts(60, 5)
    found = moved_by("b", 20, prototypes, examples)
    mean = examples[:20].astype(np.float64).mean(axis=0)
    expected = unit(LABEL_TEXTS * prototypes[1].astype(np.float64) + MAX_LEAD * mean)
    np.testing.assert_allclose(found[1], expected, atol=MAX_ERROR)
    np.testing.assert_allclose(found[[0, 2]], prototypes[[0, 2]], atol=MAX_ERROR)


def test_examples_count_in_full_where_no_label_leads() -> None:
    prototypes, examples = texts(3, 4), texts(60, 5)
    for others in (20, 17):
        found = moved_by("b", 20, prototypes, examples, others)
        total = examples[:20].astype(np.float64).sum(axis=0)
        expected = unit(LABEL_TEXTS * prototypes[1].astype(np.float64) + total)
        np.testing.assert_allclose(found[1], expected, atol=MAX_ERROR)


def test_more_examples_of_one_label_never_attract_what_belongs_to_the_others() -> None:
    # Labels are sentences about a topic, texts are texts: these share a direction that labels lack.
    rng = np.random.default_rng(6)
    prototypes = unit(rng.standard_normal((3, DIM)))
    text = unit(rng.standard_normal((1, DIM)))
    gold = np.arange(300) % 3
    stream = unit(0.15 * prototypes[gold] + 0.5 * text + 0.5 * unit(rng.standard_normal((300, DIM))))
    examples = stream[gold == 1][:20]
    found = corrected_prototypes(prototypes, "abc", examples, ["b"] * 20)
    before = ((stream @ prototypes.T).argmax(axis=1) == gold).mean()
    after = ((stream @ found.T).argmax(axis=1) == gold).mean()
    assert before > 0.95
    assert after > 0.8
