"""Fitting labels: laws of the pure functions, what speaks against a sample, and what files are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from alignstream.export.data.label_examples import read_examples, read_sample
from alignstream.export.fit.label_fit import LabelFitOutcome, align_tagged, fit_labels
from alignstream.models.adapter.adapter import Adapter, identity
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.arrays import Matrix
from alignstream.models.errors import LabelsError, TextError
from alignstream.models.labels import calibration, zero_shot
from alignstream.models.labels.calibration import (
    MIN_EXAMPLES,
    calibration_error,
    fit_margin,
    fit_temperature,
    fit_thresholds,
    match_thresholds,
)
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.labels.refinement import (
    MIN_KEYS,
    MIN_TEXTS,
    centre_labels,
    label_bias,
    refine,
    why_not,
)
from alignstream.models.labels.zero_shot import TEMPERATURE, label_cosines

DIM = 24
N_TOPICS = 4
NAMES = ("art", "law", "sea", "war")
LABELS = LabelSet(NAMES)
ADAPTER = identity("e" * 64, DIM)
TEMPLATE = "It is {label}."
#: Sums over texts in another order differ in the last bits.
ORDER = 1e-6

untimed = settings(deadline=None)
seeds = st.integers(0, 2**32 - 1)


def unit(X: NDArray[np.float64]) -> Matrix:
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def truth() -> NDArray[np.float64]:
    return np.linalg.qr(np.random.default_rng(1).standard_normal((DIM, DIM)))[0][:N_TOPICS]


def label_vectors() -> Matrix:
    """Label texts share their template, and point only roughly to their topics."""
    noise = np.random.default_rng(2).standard_normal((N_TOPICS + 1, DIM)) / np.sqrt(DIM)
    return unit(0.6 * truth() + noise[0] + 0.4 * noise[1:])


def world(gold: NDArray[np.int64], seed: int = 0) -> Matrix:
    """Texts of topics, all with a direction of their domain."""
    draw = np.random.default_rng(seed)
    domain = np.random.default_rng(9).standard_normal(DIM) / np.sqrt(DIM)
    noise = draw.standard_normal((len(gold), DIM)) / np.sqrt(DIM)
    return unit(0.7 * truth()[gold] + 0.7 * domain + noise)


def mixed(n: int, seed: int = 0) -> tuple[Matrix, NDArray[np.int64]]:
    gold = np.random.default_rng(seed).integers(N_TOPICS, size=n)
    return world(gold, seed), gold


def accuracy(prototypes: Matrix, bias: Any, X: Matrix, gold: NDArray[np.int64]) -> float:
    return float(((label_cosines(X, prototypes) - bias).argmax(axis=1) == gold).mean())


def one_hot(gold: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.eye(N_TOPICS, dtype=np.bool_)[gold]


# -- prototypes ----------------------------------------------------------------------------------------------


def test_refined_labels_find_more_of_texts_that_they_have_not_seen() -> None:
    sample, _ = mixed(400, seed=1)
    X, gold = mixed(600, seed=2)
    P = label_vectors()
    C = refine(P, sample)
    assert accuracy(C, label_bias(C, sample), X, gold) > accuracy(P, 0.0, X, gold) + 0.05


@given(seed=seeds)
@untimed
def test_the_order_of_the_texts_changes_nothing(seed: int) -> None:
    sample, _ = mixed(60, seed=3)
    order = np.random.default_rng(seed).permutation(len(sample))
    C, D = refine(label_vectors(), sample), refine(label_vectors(), sample[order])
    assert np.abs(C - D).max() <= ORDER
    assert label_bias(C, sample) == pytest.approx(label_bias(C, sample[order]), abs=ORDER)


@given(order=st.permutations(range(N_TOPICS)))
@untimed
def test_labels_in_another_order_are_the_same_labels(order: list[int]) -> None:
    sample, _ = mixed(60, seed=3)
    assert (
        np.abs(refine(label_vectors()[order], sample) - refine(label_vectors(), sample)[order]).max() <= ORDER
    )


def test_the_same_sample_gives_the_same_bytes_and_is_not_changed() -> None:
    sample, _ = mixed(60, seed=3)
    P = label_vectors()
    before = P.tobytes(), sample.tobytes()
    assert refine(P, sample).tobytes() == refine(P, sample).tobytes()
    assert (P.tobytes(), sample.tobytes()) == before


def test_refined_labels_are_unit_vectors_without_the_common_direction() -> None:
    sample, _ = mixed(60, seed=3)
    common = np.zeros(DIM)
    common[2] = 1.0
    C = refine(label_vectors(), sample, common=common)
    assert C.dtype == np.float32
    assert np.linalg.norm(C, axis=1) == pytest.approx(np.ones(N_TOPICS), abs=1e-6)
    assert np.abs(C @ common).max() < 1e-6


def test_centred_labels_share_nothing_and_one_label_stays() -> None:
    shared = label_vectors().mean(axis=0)
    assert np.linalg.norm(shared) > 0.5
    C = centre_labels(label_vectors())
    assert np.linalg.norm(C.mean(axis=0)) < 0.2
    assert np.abs(centre_labels(label_vectors()[:1]) - label_vectors()[:1]).max() < 1e-6


@pytest.mark.parametrize(
    ("prototypes", "texts", "message"),
    [
        (label_vectors(), np.zeros((5, DIM - 1), dtype=np.float32), "do not share a space"),
        (label_vectors(), np.zeros((0, DIM), dtype=np.float32), "at least one label and one text"),
        (label_vectors(), np.full((5, DIM), np.nan, dtype=np.float32), "not finite"),
        (label_vectors() * np.float32(np.inf), mixed(5)[0], "not finite"),
        (label_vectors()[:1], mixed(5)[0], "a single label"),
        (label_vectors()[0], mixed(5)[0], "do not share a space"),
    ],
)
def test_what_cannot_be_refined_is_refused(prototypes: Matrix, texts: Matrix, message: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(LabelsError, match=message):
        refine(prototypes, texts)


# -- what speaks against a sample -----------------------------------------------------------------------------


def refusal(texts: Matrix, keys: list[str] | None = None) -> str:
    return why_not(NAMES, label_vectors(), texts, keys=keys) or ""


def test_nothing_speaks_against_a_mixed_sample_from_many_sources() -> None:
    sample, _ = mixed(MIN_TEXTS)
    assert why_not(NAMES, label_vectors(), sample) is None
    assert why_not(NAMES, label_vectors(), sample, keys=[str(i % 40) for i in range(MIN_TEXTS)]) is None


def test_too_few_texts_and_too_few_sources_are_said() -> None:
    sample, _ = mixed(MIN_TEXTS)
    assert refusal(sample[1:]) == f"{MIN_TEXTS - 1} texts are too few; {MIN_TEXTS} are needed"
    few = [str(i % (MIN_KEYS - 1)) for i in range(MIN_TEXTS)]
    assert f"{MIN_KEYS - 1} sources" in refusal(sample, few)
    loud = ["one"] * 150 + [str(i) for i in range(MIN_TEXTS - 150)]
    assert refusal(sample, loud) == "75% of the texts come from one source"


@pytest.mark.parametrize("topic", range(N_TOPICS))
def test_a_sample_of_one_topic_is_seen_and_would_do_harm(topic: int) -> None:
    sample = world(np.full(300, topic), seed=4)
    assert "looks one-sided" in refusal(sample)
    X = world(np.full(300, topic), seed=5)
    P, C = label_vectors(), refine(label_vectors(), sample)
    gold = np.full(300, topic)
    assert accuracy(C, label_bias(C, sample), X, gold) < accuracy(P, 0.0, X, gold)


def test_a_label_that_no_text_falls_to_is_named() -> None:
    many = np.random.default_rng(0).standard_normal((12, DIM))
    P = unit(np.vstack([many, -many.sum(axis=0)[None]]))
    sample = unit(np.repeat(many, 40, axis=0))
    names = [f"label {i}" for i in range(13)]
    assert why_not(names, P, sample) == "the sample looks one-sided: no text gets 'label 12'"
    assert why_not(["only"], P[:1], sample) == "a single label cannot be refined"


# -- calibration ----------------------------------------------------------------------------------------------


def calibrated_scores(
    n: int, temperature: float, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw labels from the softmax of random cosines: the temperature is the true one."""
    draw = np.random.default_rng(seed)
    cosines = 0.1 * draw.standard_normal((n, N_TOPICS))
    p = np.exp(cosines / temperature)
    gold = (p.cumsum(axis=1) / p.sum(axis=1, keepdims=True) > draw.random((n, 1))).argmax(axis=1)
    return cosines, one_hot(gold)


@pytest.mark.parametrize("temperature", [0.03, 0.08, 0.2])
def test_the_temperature_that_drew_the_labels_is_found(temperature: float) -> None:
    cosines, gold = calibrated_scores(4000, temperature)
    assert fit_temperature(cosines, gold, prior=0.06, multi_label=False) == pytest.approx(
        temperature, rel=0.1
    )
    scores = np.exp(cosines / temperature)
    scores /= scores.sum(axis=1, keepdims=True)
    right = gold[np.arange(len(gold)), scores.argmax(axis=1)]
    assert calibration_error(scores.max(axis=1), right) < 0.03
    assert calibration_error(np.full(len(right), 0.999), right) == pytest.approx(0.999 - right.mean())


def test_a_few_right_examples_do_not_make_it_certain() -> None:
    cosines = np.eye(N_TOPICS) * 0.2
    assert fit_temperature(cosines, np.eye(N_TOPICS, dtype=np.bool_), prior=0.06, multi_label=False) > 0.02


def test_the_margin_leaves_out_what_is_wrong_more_often_than_right() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.55, 0.45], [0.52, 0.48]])
    gold = np.array([[True, False]] * 3 + [[False, True]] * 2)
    margin = fit_margin(scores, gold, wrong_cost=1.0)
    assert 0.1 < margin <= 0.4 + 1e-12
    assert fit_margin(scores, gold, wrong_cost=0.0) == 0.0
    assert fit_margin(scores, np.roll(gold, 3, axis=0) | True, wrong_cost=1.0) == 0.0
    assert fit_margin(np.ones((3, 1)), np.ones((3, 1), dtype=np.bool_), wrong_cost=1.0) == 0.0


def test_a_threshold_lies_between_the_texts_of_a_label_and_the_others() -> None:
    draw = np.random.default_rng(0)
    gold = draw.random((400, 3)) < 0.3
    places = np.array([0.1, 0.3, 0.5])
    cosines = places + np.where(gold, 0.05, -0.05) + 0.01 * draw.standard_normal(gold.shape)
    thresholds = fit_thresholds(cosines, gold)
    assert calibration.balanced_accuracy(cosines >= thresholds, gold) > 0.95
    without = gold.copy()
    without[:, 2] = False
    assert 0.1 < fit_thresholds(cosines, without)[2] < 0.4, "a label without examples takes the shared one"
    with pytest.raises(LabelsError, match="at least one label with an example"):
        fit_thresholds(cosines, np.ones_like(gold))


def test_thresholds_without_examples_keep_the_share_of_texts_that_a_label_applies_to() -> None:
    draw = np.random.default_rng(0)
    plain, moved = 0.1 * draw.standard_normal((2, 1000, 3))
    share = (plain >= zero_shot.MULTI_LABEL_MIDPOINT).mean(axis=0)
    assert (moved >= match_thresholds(plain, moved)).mean(axis=0) == pytest.approx(share, abs=0.002)


# -- the fit of a set -----------------------------------------------------------------------------------------


def run(sample: Matrix, examples: int = 0, labels: LabelSet = LABELS, **options: Any) -> LabelFitOutcome:
    X, gold = mixed(examples or 1, seed=7)
    return fit_labels(
        labels, adapter=ADAPTER, template=TEMPLATE, prototypes=label_vectors(), sample=sample,
        examples=X if examples else None, gold=one_hot(gold) if examples else None, **options,
    )  # fmt: skip


def test_a_fit_without_examples_refines_and_never_abstains() -> None:
    found = run(mixed(400, seed=1)[0])
    fitted = found.labels.fitted
    assert fitted is not None
    assert fitted.serves(ADAPTER, TEMPLATE)
    assert found.warnings == []
    assert (found.report["refined"], found.report["abstained"], found.report["examples"]) == (True, 0.0, 0)
    assert "accuracy" not in found.report
    X, gold = mixed(600, seed=2)
    after = accuracy(fitted.matrix, np.array(fitted.bias), X, gold)
    assert after > accuracy(label_vectors(), 0.0, X, gold) + 0.05


def test_examples_give_temperature_margin_and_figures_that_are_stored() -> None:
    found = run(mixed(400, seed=1)[0], examples=200)
    assert found.labels.fitted is not None
    report = found.labels.fitted.report
    assert json.loads(json.dumps(report)) == report == found.report
    before, after = report["accuracy"]
    assert after > before
    assert report["calibration_error"][1] < 0.15
    careful = run(mixed(400, seed=1)[0], examples=200, wrong_cost=5.0).report
    assert careful["abstained"] > report["abstained"]
    assert careful["accuracy_answered"] > after


def test_a_sample_of_one_topic_changes_no_label_unless_it_is_forced() -> None:
    sample = world(np.zeros(300, dtype=np.int64), seed=4)
    found = run(sample)
    assert found.labels == LABELS
    assert "one-sided" in found.warnings[0]
    calibrated = run(sample, examples=60)
    assert calibrated.labels.fitted is not None
    assert not calibrated.report["refined"]
    X, _ = mixed(300, seed=6)
    plain = label_cosines(X, label_vectors()).argmax(axis=1)
    assert (label_cosines(X, calibrated.labels.fitted.matrix).argmax(axis=1) == plain).mean() > 0.99
    forced = run(sample, force=True)
    assert forced.report["refined"]
    assert forced.report["forced"]
    assert "one-sided" in forced.warnings[0]


def test_labels_that_the_examples_speak_against_stay_plain() -> None:
    draw = np.random.default_rng(0)
    sample = mixed(400, seed=1)[0]
    # Examples whose labels are those that the plain labels give: nothing can do better.
    X = unit(draw.standard_normal((400, DIM)))
    gold = label_cosines(X, label_vectors()).argmax(axis=1)
    found = fit_labels(
        LABELS, adapter=ADAPTER, template=TEMPLATE, prototypes=label_vectors(), sample=sample, examples=X,
        gold=one_hot(gold),
    )  # fmt: skip
    assert not found.report["refined"]
    assert "do worse on the examples" in found.warnings[0]
    assert found.report["accuracy"] == [1.0, pytest.approx(1.0, abs=0.01)]


def test_a_label_without_an_example_is_named() -> None:
    X, gold = mixed(60, seed=7)
    gold = np.where(gold == 2, 1, gold)
    found = fit_labels(
        LABELS, adapter=ADAPTER, template=TEMPLATE, prototypes=label_vectors(), sample=mixed(400, seed=1)[0],
        examples=X, gold=one_hot(gold),
    )  # fmt: skip
    assert found.warnings[-1] == "there is no example of 'sea'"


def test_a_multi_label_set_gets_thresholds_with_and_without_examples() -> None:
    labels = LabelSet(NAMES, multi_label=True)
    for examples in (0, 200):
        found = run(mixed(400, seed=1)[0], examples=examples, labels=labels)
        assert found.labels.fitted is not None
        assert len(found.labels.fitted.thresholds or ()) == N_TOPICS
        assert found.labels.fitted.abstain_margin == 0.0
    before, after = found.report["balanced_accuracy"]
    assert after > before


def test_an_earlier_fit_does_not_count() -> None:
    sample = mixed(400, seed=1)[0]
    once = run(sample)
    assert run(sample, labels=once.labels).labels == once.labels


def test_texts_are_aligned_with_their_own_tags() -> None:
    adapter = Adapter("e" * 64, DIM, (Centre(np.full(DIM, 0.1, dtype=np.float32)),))
    X = mixed(4)[0]
    assert align_tagged(adapter, X, ["de", None, "de", "en"]).tobytes() == adapter.transform_many(X).tobytes()


# -- files ----------------------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_sample_is_read_from_lines_tables_and_json(tmp_path: Path) -> None:
    found = read_sample(write(tmp_path / "a.txt", "one\n\n two \none\nwith\ttab\n"), language="de")
    assert (found.texts, found.languages) == (("one", "two", "with\ttab"), ("de",) * 3)
    assert found.n_repeated == 1
    found = read_sample(write(tmp_path / "a.tsv", "de\teins\nfr\tun\n"))
    assert (found.texts, found.languages) == (("eins", "un"), ("de", "fr"))
    found = read_sample(write(tmp_path / "a.jsonl", '{"text": "x", "language": "fr"}\n{"text": "y"}\n'))
    assert (found.texts, found.languages) == (("x", "y"), ("fr", None))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "holds no text"),
        ("a.txt", b"\xff\xfe\x00", "line 1: not UTF-8"),
        ("a.tsv", "de\teins\nno tab\n", "line 2: language<TAB>text is needed"),
        ("a.tsv", "no tag here\teins\n", "line 1: 'no tag here' is not a language tag"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.jsonl", '{"text": "x"}\n{"language": "de"}\n', "line 2: an object with strings 'text'"),
        ("a.jsonl", '{"text": "x", "language": 1}\n', "line 1: an object with strings 'text'"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "line 1: the text holds a lone surrogate"),
    ],
)
def test_a_sample_that_cannot_be_read_says_where(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TextError, match=message):
        read_sample(write(tmp_path / name, content))


def test_a_sample_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="cannot read"):
        read_sample(tmp_path / "nothing.txt")


def lines(n: int = MIN_EXAMPLES) -> list[str]:
    return [f"{NAMES[i % N_TOPICS]}\ttext {i}" for i in range(n)]


def test_examples_are_read_with_and_without_languages(tmp_path: Path) -> None:
    found = read_examples(write(tmp_path / "e.tsv", "\n".join([*lines(), "sea\tde\tdas Meer"])), LABELS)
    assert found.languages[-1] == "de"
    assert found.gold is not None
    assert found.gold[-1].tolist() == [False, False, True, False]
    assert found.gold.sum(axis=1).tolist() == [1] * (MIN_EXAMPLES + 1)
    records = [json.dumps({"label": "art", "text": f"t{i}", "language": "fr"}) for i in range(MIN_EXAMPLES)]
    found = read_examples(write(tmp_path / "e.jsonl", "\n".join(records)), LABELS)
    assert set(found.languages) == {"fr"}


def test_a_text_has_several_labels_only_where_they_do_not_exclude_each_other(tmp_path: Path) -> None:
    path = write(tmp_path / "e.tsv", "\n".join([*lines(), "sea\ttext 0"]))
    with pytest.raises(TextError, match=f"line {MIN_EXAMPLES + 1}: this text has another label on line 1"):
        read_examples(path, LABELS)
    found = read_examples(path, LabelSet(NAMES, multi_label=True))
    assert found.gold is not None
    assert found.gold[0].tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "\n".join([*lines(), "seas\tx"]),
            f"line {MIN_EXAMPLES + 1}: no label 'seas' in this set; did you mean 'sea'",
        ),
        ("\n".join([*lines(), "xyz\tx"]), "no label 'xyz' in this set; there are: art, law, sea, war"),
        ("\n".join(lines(MIN_EXAMPLES - 1)), f"{MIN_EXAMPLES - 1} texts with labels are too few"),
        ("just text\n", "line 1: label<TAB>text or"),
        ("art\t\n", "line 1: label<TAB>text or"),
        ("art\tnot a tag\ttext\n", "line 1: 'not a tag' is not a language tag"),
        ("", "0 texts with labels are too few"),
    ],
)
def test_examples_that_cannot_be_used_say_where(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TextError, match=message):
        read_examples(write(tmp_path / "e.tsv", content), LABELS)


def test_examples_are_taken_out_of_the_sample(tmp_path: Path) -> None:
    sample = read_sample(write(tmp_path / "a.txt", "Text  0\nother\n"))
    examples = read_examples(write(tmp_path / "e.tsv", "\n".join(lines())), LABELS)
    assert sample.without(examples).texts == ("other",)


def test_the_temperature_of_plain_labels_without_examples_is_the_one_that_serves() -> None:
    assert calibration.uncalibrated(is_refined=False).temperature == TEMPERATURE
