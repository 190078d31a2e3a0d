"""Tiny encoders with random weights and tokenizers trained here, as transformers writes them."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tokenizers

LAYERS = 4
HIDDEN = 32
CORPUS = [
    "After the rain the river rises and the boats stay in the harbour.",
    "The Children of the Harbour sing in the evening.",
    "Nach dem Regen steigt der Fluss, und die Boote bleiben im Hafen.",
    "Après la pluie la rivière monte et les bateaux restent au port.",
    "После дождя река поднимается, и лодки остаются в гавани.",
    "雨后河水上涨,船只都停在港口里。",
    "بعد المطر يرتفع النهر وتبقى القوارب في الميناء.",
]

Build = Callable[..., Path]


class Trained(NamedTuple):
    """A tokenizer's two files, and what a model's config must say about it."""

    tokenizer: str
    settings: dict[str, Any]
    config: dict[str, Any]


@functools.cache  # training breaks ties at random: once, so that two models can share a tokenizer
def _unigram() -> Trained:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
    tokenizer.normalizer = tokenizers.normalizers.NFKC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=special,
        unk_token="<unk>",  # noqa: S106 (a piece)
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512}
    config = {
        "vocab_size": tokenizer.get_vocab_size() + 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    return Trained(tokenizer.to_str(), settings, config)


@functools.cache
def _word_piece(*, is_lowered: bool) -> Trained:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))  # noqa: S106 (a piece)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=is_lowered)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 512, "do_lower_case": is_lowered}
    return Trained(
        tokenizer.to_str(), settings, {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0}
    )


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a function that writes a tiny model's folder and gives its path.

    ``family`` is "xlm-r", "bert-cased" or "bert-uncased"; ``head`` also writes one for masked words;
    ``change`` is called with the model before it is saved; further settings go into its config.
    """
    torch: Any = pytest.importorskip("torch", reason="needs the export extra")
    library: Any = pytest.importorskip("transformers", reason="needs the export extra")
    # Matrices this small cost far less than waking a second thread, above all beside other programs.
    torch.set_num_threads(1)

    def write(
        family: str,
        *,
        name: str = "tiny",
        head: bool = False,
        change: Callable[[Any], None] | None = None,
        **settings: object,
    ) -> Path:
        folder = tmp_path_factory.mktemp(family) / name
        folder.mkdir()
        config = {
            "hidden_size": HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 514 if family == "xlm-r" else 512,
            "type_vocab_size": 1 if family == "xlm-r" else 2,
            # Wide enough that texts, layers and poolings differ plainly.
            "initializer_range": 0.3,
        }
        if family == "xlm-r":
            trained = _unigram()
            kinds = library.XLMRobertaConfig, library.XLMRobertaModel, library.XLMRobertaForMaskedLM
        else:
            trained = _word_piece(is_lowered=family == "bert-uncased")
            kinds = library.BertConfig, library.BertModel, library.BertForMaskedLM
        (folder / "tokenizer.json").write_text(trained.tokenizer, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(trained.settings), encoding="utf-8")
        torch.manual_seed(7)
        model = kinds[2 if head else 1](kinds[0](**(config | trained.config | settings)))
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter_name.endswith("bias"):
                    parameter.normal_(std=0.2)
            if change is not None:
                change(model)
        model.save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def models(build: Build) -> dict[str, Path]:
    """Return one tiny model of each family."""
    return {family: build(family) for family in ("xlm-r", "bert-cased", "bert-uncased")}
