"""Refiners of a map: laws of the losses, what they reach on a world where the truth is known, and how they stop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from late import late, needs_torch

from alignstream.export.data.pair_checks import PairVectors
from alignstream.export.data.pairs import Pairs
from alignstream.export.fit.pair_adapter import with_correction
from alignstream.export.train.curves import check_curves, write_curves
from alignstream.export.train.unpaired_checks import check_texts
from alignstream.models.adapter.adapter import Adapter, from_bytes
from alignstream.models.adapter.steps.linear import LinearMap
from alignstream.models.arrays import Matrix
from alignstream.models.errors import AdapterError, TextError, TrainingError

torch = late("torch")
judge = late("alignstream.export.train.judge")
losses = late("alignstream.export.train.losses")
PairConfig = late("alignstream.export.train.refine", "PairConfig")
refine = late("alignstream.export.train.refine", "refine")
AdversarialConfig = late("alignstream.export.train.adversarial", "AdversarialConfig")
refine_unpaired = late("alignstream.export.train.adversarial", "refine_unpaired")
train_on_pairs = late("alignstream.export.train.trained_adapter", "train_on_pairs")
train_without_pairs = late("alignstream.export.train.trained_adapter", "train_without_pairs")

pytestmark = needs_torch

DIM = 16
IDENTITY = np.eye(DIM, dtype=np.float32)
FAST = {"passes": 12, "batch_size": 64, "lr": 5e-3, "patience": 4}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def sides(n: int, *, seed: int, turn: float = 1.5) -> tuple[Matrix, Matrix]:
    """Return noisy translations: the source side is turned against the target side."""
    generator = np.random.default_rng(seed)
    Y = generator.normal(size=(n, DIM))
    Q, _ = np.linalg.qr(np.eye(DIM) + turn * np.random.default_rng(5).normal(size=(DIM, DIM)) / np.sqrt(DIM))
    Q *= np.sign(np.diag(Q))[:, None]
    X = Y @ Q + 0.6 * generator.normal(size=(n, DIM))
    return judge.unit(X), judge.unit(Y)


def trained(loss: str, *, config: Any = None, checkpoint: Path | None = None) -> Any:
    return refine(
        *sides(400, seed=1), *sides(150, seed=2), start=IDENTITY, loss=loss,
        config=config or PairConfig(**FAST), device="cpu", checkpoint=checkpoint,
    )  # fmt: skip


# -- the losses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["info_nce", "translation_ranking"])
def test_a_loss_is_lower_for_translations_and_the_same_from_either_side(name: str) -> None:
    loss = getattr(losses, name)
    A, B = (torch.from_numpy(side) for side in sides(64, seed=3, turn=0.1))
    right, wrong = loss(A, B), loss(A, B.roll(1, dims=0))
    assert float(right) < float(wrong)
    assert float(loss(B, A)) == pytest.approx(float(right), rel=1e-5)


def test_a_margin_and_hard_negatives_make_ranking_harder() -> None:
    A, B = (torch.from_numpy(side) for side in sides(64, seed=3, turn=0.1))
    values = [float(losses.translation_ranking(A, B, margin=margin)) for margin in (0.0, 0.3, 0.6)]
    assert values == sorted(values)
    wrong = torch.from_numpy(judge.nearest_wrong(A.numpy(), B.numpy(), 3))
    assert float(losses.translation_ranking(A, B, hard=B[wrong])) > float(losses.translation_ranking(A, B))


@pytest.mark.parametrize("name", ["info_nce", "translation_ranking"])
def test_the_translation_of_the_same_text_is_no_wrong_answer(name: str) -> None:
    loss = getattr(losses, name)
    A, B = (torch.from_numpy(side) for side in sides(16, seed=3, turn=0.1))
    noisy = A + 0.003 * torch.randn(A.shape, generator=torch.Generator().manual_seed(0))
    twice = loss(torch.cat([A, noisy]), torch.cat([B, B]))
    once = loss(A, B)
    # A right answer taken for a wrong one would cost at least log 2.
    assert float(twice) < float(once) + 0.3


def test_a_gradient_reaches_the_map() -> None:
    A, B = (torch.from_numpy(side) for side in sides(32, seed=3))
    W = torch.eye(DIM, requires_grad=True)
    losses.info_nce(A @ W, B).backward()
    assert W.grad is not None
    assert float(W.grad.abs().max()) > 0.0


def test_the_discriminator_and_the_map_want_opposite_things() -> None:
    told_apart, fooled = torch.full((8,), 3.0), torch.full((8,), -3.0)
    assert float(losses.discriminator_loss(told_apart, fooled)) < float(
        losses.discriminator_loss(fooled, told_apart)
    )
    assert float(losses.map_loss(told_apart, fooled)) > float(losses.map_loss(fooled, told_apart))


def test_the_orthogonalising_step_leads_to_an_orthogonal_matrix() -> None:
    W = torch.eye(DIM) + 0.1 * torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0))
    first = losses.orthogonality_error(W)
    for _ in range(2000):
        W = losses.orthogonalise(W)
    assert losses.orthogonality_error(W) < 1e-3 < first
    torch.testing.assert_close(losses.orthogonalise(torch.eye(DIM)), torch.eye(DIM))


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["contrastive", "ranking"])
def test_pairs_improve_on_the_start_and_the_best_pass_is_kept(loss: str, tmp_path: Path) -> None:
    found = trained(loss)
    assert found.accepted, found.reason
    before, best = found.curves[0].figures, found.curves[found.best_pass].figures
    assert best["accuracy"] > before["accuracy"]
    assert best["accuracy"] == max(point.figures["accuracy"] for point in found.curves)
    X, Y = sides(150, seed=2)
    assert judge.figures(X @ found.matrix, Y)["accuracy"] == pytest.approx(best["accuracy"], abs=0.4)
    data, picture = write_curves(found.curves, tmp_path, title=loss, best_pass=found.best_pass)
    assert len(json.loads(data.read_text())["passes"]) == len(found.curves)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_start_that_cannot_be_improved_is_kept() -> None:
    X, Y = sides(200, seed=1, turn=0.0)
    config = PairConfig(passes=4, batch_size=64, lr=0.5, patience=2)
    found = refine(
        X, Y, *sides(150, seed=2, turn=0.0), start=IDENTITY, loss="contrastive", config=config, device="cpu"
    )
    assert not found.accepted
    assert found.matrix.tobytes() == IDENTITY.tobytes()
    assert found.reason


def test_without_pairs_a_mild_turn_gets_no_worse_and_the_map_stays_orthogonal() -> None:
    X, _ = sides(300, seed=1, turn=0.1)
    _, Y = sides(300, seed=9, turn=0.1)
    dev = sides(150, seed=2, turn=0.1)
    config = AdversarialConfig(passes=3, batch_size=64, hidden=32)
    found = refine_unpaired(X, Y, *dev, config=config, device="cpu")
    after, before = (judge.figures(dev[0] @ W, dev[1])["accuracy"] for W in (found.matrix, IDENTITY))
    assert after >= before
    assert losses.orthogonality_error(torch.from_numpy(found.matrix)) < 0.2


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    config = PairConfig(passes=3, batch_size=64, lr=5e-3)
    first, second = trained("ranking", config=config), trained("ranking", config=config)
    assert first.matrix.tobytes() == second.matrix.tobytes()
    other = trained("ranking", config=PairConfig(passes=3, batch_size=64, lr=5e-3, seed=1))
    assert other.matrix.tobytes() != first.matrix.tobytes()


def test_a_run_that_was_stopped_goes_on_as_if_it_never_had(tmp_path: Path) -> None:
    long, short = (PairConfig(passes=passes, batch_size=64, lr=5e-3) for passes in (6, 2))
    whole = trained("contrastive", config=long)
    trained("contrastive", config=short, checkpoint=tmp_path / "run")
    resumed = trained("contrastive", config=long, checkpoint=tmp_path / "run")
    assert resumed.matrix.tobytes() == whole.matrix.tobytes()
    assert [point.figures for point in resumed.curves] == [point.figures for point in whole.curves]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    config = PairConfig(passes=1, batch_size=64, lr=5e-3)
    trained("contrastive", config=config, checkpoint=tmp_path / "run")
    with pytest.raises(TrainingError):
        trained("ranking", config=config, checkpoint=tmp_path / "run")
    with pytest.raises(TrainingError):
        trained(
            "contrastive", config=PairConfig(passes=1, batch_size=64, lr=1e-3), checkpoint=tmp_path / "run"
        )


# -- from pairs to an adapter ----------------------------------------------------------------------


def pair_vectors(n: int, *, seed: int, turn: float = 1.5, language: str = "sw") -> PairVectors:
    X, Y = sides(n, seed=seed, turn=turn)
    pairs = Pairs(f"{seed}.tsv", language, "en", [""] * n, [""] * n, list(range(2, n + 2)))
    return PairVectors(pairs, X, Y)


def start_of(matrix: Matrix) -> Adapter:
    return Adapter(encoder="e" * 64, dim=DIM, steps=(LinearMap(matrix=matrix),))


def test_a_trained_map_is_kept_where_it_beats_the_start_and_the_closed_form() -> None:
    start = start_of(IDENTITY)
    pairs, dev = pair_vectors(400, seed=1), pair_vectors(150, seed=2)
    found = train_on_pairs("contrastive", start, pairs, dev, config=PairConfig(**FAST), device="cpu")
    assert list(found.figures) == ["start", "closed form", "trained"]
    best = max(found.figures, key=lambda name: judge.dev_rank(found.figures[name]))
    assert found.kept == best != "start"
    X, Y = pair_vectors(150, seed=2).aligned(found.adapter)
    assert judge.figures(X, Y)["accuracy"] == pytest.approx(found.figures[best]["accuracy"], abs=0.4)
    assert from_bytes(found.adapter.blob).report["kept"] == best


def test_a_start_that_is_better_than_what_was_trained_is_what_is_written() -> None:
    # Fitted to the very pairs that judge: nothing that is fitted to others can be better.
    judged = pair_vectors(40, seed=2)
    good, _, _, _ = np.linalg.lstsq(judged.source, judged.target, rcond=None)
    start = with_correction(start_of(IDENTITY), "sw-Latn", good.astype(np.float64), rank=DIM)
    config = PairConfig(passes=2, batch_size=8, lr=0.3, patience=1)
    found = train_on_pairs(
        "ranking",
        start,
        pair_vectors(20, seed=1, turn=1.1),
        judged,
        config=config,
        device="cpu",
    )
    assert found.kept == "start"
    assert found.adapter.steps == start.steps
    assert found.adapter.report["kept"] == "start"


def test_without_pairs_only_development_pairs_are_paired_and_two_languages_are_needed() -> None:
    X, _ = sides(200, seed=1, turn=0.1)
    _, Y = sides(200, seed=9, turn=0.1)
    config = AdversarialConfig(passes=1, hidden=16)
    dev = pair_vectors(100, seed=2, turn=0.1)
    found = train_without_pairs(start_of(IDENTITY), X, Y, dev, config=config, device="cpu")
    assert list(found.figures) == ["start", "trained"]
    same = pair_vectors(100, seed=2, turn=0.1, language="en")
    with pytest.raises(AdapterError, match="two languages are needed"):
        train_without_pairs(start_of(IDENTITY), X, Y, same, config=config, device="cpu")


def test_texts_to_train_on_share_none_with_the_pairs_that_judge_nor_with_each_other() -> None:
    dev = Pairs("dev.tsv", "sw", "en", ["habari", "asante"], ["news", "thanks"], [2, 3])
    check_texts(["kitabu", "nyumba"], ["book", "house"], dev)
    with pytest.raises(TextError, match=r"dev\.tsv, line 3: this target text"):
        check_texts(["kitabu"], ["book", "  THANKS "], dev)
    with pytest.raises(TextError, match="2 texts are on both sides"):
        check_texts(["book", "house"], ["house", "book"], dev)


def test_a_folder_for_curves_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write curves"):
        check_curves(tmp_path / "file" / "curves")
    check_curves(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_cannot_be_trained_is_refused() -> None:
    X, Y = sides(20, seed=1)
    with pytest.raises(TrainingError):
        refine(X, Y[:10], X, Y, start=IDENTITY, loss="contrastive", device="cpu")
    broken = X.copy()
    broken[3, 4] = np.nan
    with pytest.raises(TrainingError):
        refine(broken, Y, X, Y, start=IDENTITY, loss="contrastive", device="cpu")
    with pytest.raises(TrainingError):
        PairConfig(temperature=0.0)
    with pytest.raises(TrainingError):
        AdversarialConfig(dropout=1.0)
