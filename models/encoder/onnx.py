"""The encoder in memory: a verified artifact on ONNX Runtime. Never imports torch."""

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime

from alignstream.models.arrays import Matrix
from alignstream.models.encoder import artifact
from alignstream.models.encoder.artifact import Manifest
from alignstream.models.encoder.batching import micro_batches
from alignstream.models.encoder.token_spans import PlacingTokenizer, TokenVectors
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import ArtifactCorrupt, ArtifactMismatch, InferenceError

SENTENCE: Final = "sentence_embedding"
TOKEN: Final = "token_embeddings"  # noqa: S105 (the name of a graph output)
#: A row whose length differs from 1 by more was not normalised.
MAX_NORM_ERROR: Final = 1e-3


class OnnxEncoder:
    """An encoder loaded from an artifact folder.

    Loading verifies names, sizes and sha256 before parsing, refuses external data, and checks the golden
    vectors. Vectors depend on the text alone, bit for bit: not on the batch, its order or its padding.

    Parameters
    ----------
    folder : Path
        An artifact written by ``alignstream export``.
    threads : int
        Threads per run of the graph; 0 uses all cores that this process may use.
    max_batch_tokens : int
        Most padded tokens per run of the graph.
    on_progress : callable
        Called after every run of the graph, so that a long batch is not mistaken for a stalled one.

    Raises
    ------
    ArtifactError
        The folder cannot be used; the message says why.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 0,
        max_batch_tokens: int = 2048,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_progress = on_progress
        self.manifest: Manifest = artifact.read_manifest(folder)
        artifact.verify_files(folder, self.manifest)
        refuse_external_data(folder / artifact.MODEL)
        self._max_batch_tokens = max_batch_tokens
        # In parallel: each takes most of a second on one core.
        with ThreadPoolExecutor(1) as executor:
            session = executor.submit(open_session, folder / artifact.MODEL, threads=threads)
            self._tokenizer = PlacingTokenizer(
                folder / artifact.TOKENIZER, prefix=self.manifest.prefix, max_tokens=self.manifest.max_tokens
            )
            self._session = session.result()
        self._inputs = {node.name for node in self._session.get_inputs()}
        outputs = {node.name for node in self._session.get_outputs()}
        if not {SENTENCE, TOKEN} <= outputs or "input_ids" not in self._inputs:
            raise ArtifactMismatch(
                f"encoder artifact {folder}: the graph must take input_ids and give {TOKEN} and {SENTENCE}, "
                f"but takes {sorted(self._inputs)} and gives {sorted(outputs)}; export it with 'alignstream export'"
            )
        self._check_golden(folder)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder, which names its vector space."""
        return self.manifest.fingerprint

    @property
    def dim(self) -> int:
        """Embedding dimension."""
        return self.manifest.dim

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize texts in order, truncated at ``manifest.max_tokens``."""
        return self._tokenizer.encode(texts)

    def encode(self, tokens: Sequence[Tokens]) -> Matrix:
        """Encode tokenized texts.

        Returns
        -------
        ndarray of shape (n, dim), float32
            Unit rows, in the given order.

        Raises
        ------
        InferenceError
            The graph failed, or returned a vector that is not finite or not of length 1.
        """
        X = np.empty((len(tokens), self.dim), dtype=np.float32)
        for group, output in self._run(tokens, SENTENCE):
            X[group] = output
        norms = np.linalg.norm(X, axis=1)
        if not np.all(np.abs(norms - 1.0) <= MAX_NORM_ERROR):  # also catches NaN
            raise InferenceError("the encoder returned a vector that is not finite or not of length 1")
        return X

    def encode_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Return the tokens of texts with their vectors; a text gives the same bytes in any batch.

        Returns
        -------
        list of TokenVectors
            Without special tokens and those of the prefix; vectors are not normalised.

        Raises
        ------
        TextNotUnicode
            A text cannot be written in UTF-8.
        TextWithoutTokens
            A text has no tokens; it is empty or blank, for example.
        InferenceError
            The graph failed, or returned numbers that are not finite.
        """
        placed = self._tokenizer.place(texts)
        vectors = [
            tokens.with_vectors(X)
            for tokens, X in zip(placed, self.token_matrices([tokens.ids for tokens in placed]), strict=True)
        ]
        if not all(np.isfinite(tokens.vectors).all() for tokens in vectors):
            raise InferenceError("the encoder returned a token vector that is not finite")
        return vectors

    def token_matrices(self, tokens: Sequence[Tokens]) -> list[Matrix]:
        """Return all token vectors, special tokens included: one (n_tokens, dim) float32 array per text."""
        result: list[Matrix] = [np.empty((0, self.dim), dtype=np.float32)] * len(tokens)
        for group, output in self._run(tokens, TOKEN):
            for row, position in enumerate(group):
                result[position] = output[row, : len(tokens[position].input_ids)]
        return result

    def encode_texts(self, texts: Sequence[str]) -> Matrix:
        """Tokenize and encode texts: unit rows of shape (n, dim), float32."""
        return self.encode(self.tokenize(texts))

    def _run(self, tokens: Sequence[Tokens], output: str) -> Iterator[tuple[list[int], Matrix]]:
        lengths = [len(text.input_ids) for text in tokens]
        for group in micro_batches(lengths, max_batch_tokens=self._max_batch_tokens):
            width = lengths[group[-1]]
            # Padding is masked, so its id does not matter; 0 is valid in every vocabulary.
            input_ids = np.zeros((len(group), width), dtype=np.int64)
            mask = np.zeros((len(group), width), dtype=np.int64)
            for row, position in enumerate(group):
                input_ids[row, : lengths[position]] = tokens[position].input_ids
                mask[row, : lengths[position]] = 1
            feeds: dict[str, Any] = {"input_ids": input_ids, "attention_mask": mask}
            if "token_type_ids" in self._inputs:
                feeds["token_type_ids"] = np.zeros_like(input_ids)
            try:
                (result,) = self._session.run([output], feeds)
            except Exception as error:  # onnxruntime's own error types are not public
                raise InferenceError(f"onnxruntime: {str(error)[:200]}") from error
            self._on_progress()
            yield group, result

    def _check_golden(self, folder: Path) -> None:
        if not self.manifest.golden:
            raise ArtifactMismatch(f"encoder artifact {folder}: the manifest has no golden vectors")
        try:
            vectors = self.encode_texts([golden.text for golden in self.manifest.golden])
            problems = artifact.golden_problems(self.manifest, vectors)
        except (InferenceError, ValueError) as error:
            raise ArtifactMismatch(
                f"encoder artifact {folder}: a golden text cannot be encoded or compared: {error}"
            ) from error
        if problems:
            raise ArtifactMismatch(
                f"encoder artifact {folder}: {problems[0]}; graph, tokenizer and manifest do not belong together, "
                "or the pooling differs: export the encoder again"
            )


def open_session(path: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph with the session options of the service.

    Raises
    ------
    ArtifactCorrupt
        onnxruntime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads take cores from the broker and the event loop, which halves the throughput.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A memory pattern is planned and kept for each input shape; lengths vary, so the plans would only use memory.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own error types are not public
        raise ArtifactCorrupt(f"{path}: onnxruntime cannot load the graph: {str(error)[:300]}") from error


def refuse_external_data(path: Path) -> None:
    """Refuse a graph if a tensor anywhere in it points to another file.

    Raises
    ------
    ArtifactCorrupt
        The file is not an ONNX graph, or has external data (path traversal: CVE-2024-27318, CVE-2026-27489).
    """
    try:
        # Memory-mapped: onnx.load first reads a copy of the whole file, which takes half of its time.
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            model = onnx.ModelProto.FromString(view)
    except Exception as error:  # protobuf's error types vary between its back ends
        raise ArtifactCorrupt(f"{path} is not an ONNX graph: {error}") from error
    if _has_external_data(model):
        raise ArtifactCorrupt(
            f"{path} keeps tensors in another file; external data is refused: export it again"
        )


def _has_external_data(message: Any) -> bool:  # noqa: ANN401 (any protobuf message)
    if isinstance(message, onnx.TensorProto):
        return bool(message.external_data) or message.data_location == onnx.TensorProto.EXTERNAL
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        children = value if field.is_repeated else [value]
        if any(_has_external_data(child) for child in children):
            return True
    return False
