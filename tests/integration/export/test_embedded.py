"""The embedded encoder whole: assembled without torch, cached, and equal to a fresh export."""

import fcntl
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cut_vocabulary import cut
from late import late
from one_encoder import OneEncoder

from alignstream.export.encoders import embedded, graph_map, weights
from alignstream.export.encoders.embedded import assemble, cached_artifact
from alignstream.export.encoders.parity_texts import parity_texts
from alignstream.models.arrays import Matrix
from alignstream.models.encoder import artifact
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.encoder.tokenizer import Tokens
from alignstream.models.errors import ArtifactCorrupt, ExportError, WeightsMissing

embedded_graph = late("alignstream.export.figures.embedded_graph")

#: Assembled and exported graphs hold the same nodes and numbers, so nothing may differ but the last bits of
#: an onnxruntime that arranges its memory otherwise.
SAME_OUTPUT = 1e-6
#: A cached copy is found by looking at three files; assembling takes seconds.
SECOND_USE_SECONDS = 0.5


#: What takes a gigabyte or two on its way runs in a process that gives them back.
ASSEMBLE = """
import sys
from pathlib import Path
from alignstream.export.encoders.embedded import cached_artifact
cached_artifact(Path(sys.argv[1]))
"""
EXPORT = """
import sys
from pathlib import Path
import pytest
import torch
from alignstream.export.encoders.onnx_export import export_onnx
from cut_vocabulary import cut
torch.set_num_threads(1)  # waiting threads spin: slow beside other programs
with pytest.MonkeyPatch.context() as patch:
    cut(patch)
    export_onnx("embedded", Path(sys.argv[1]))
"""
SUPPORT = Path(__file__).parents[2] / "support"


def run(code: str, *arguments: Path | str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, timeout=400, **options
    )


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    done = run(ASSEMBLE, folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return cached_artifact(folder)


@pytest.fixture
def encoder(one_encoder: OneEncoder, cached: Path) -> OnnxEncoder:
    return one_encoder.load(cached)


def test_translations_lie_closer_together_than_unrelated_sentences(encoder: OnnxEncoder) -> None:
    X = encoder.encode_texts(
        [
            "The cat sits on the mat.",
            "Le chat est assis sur le tapis.",
            "Die Katze sitzt auf der Matte.",
            "猫坐在垫子上。",
            "The central bank raised interest rates on Tuesday.",
        ]
    )
    similarities = X[1:] @ X[0]
    assert similarities[:3].min() > 0.84
    assert similarities[3] < 0.76


def test_a_text_gives_the_same_bytes_alone_in_any_batch_in_any_order_and_under_any_padding(
    cached: Path, one_encoder: OneEncoder
) -> None:
    """Sixty texts in 18 scripts, from 1 token to 512."""
    encoder = one_encoder.load(cached)
    tokens = encoder.tokenize([text for _, text in parity_texts()])
    longest = max(tokens, key=lambda item: len(item.input_ids))
    tokens += [Tokens(longest.input_ids[:length], dropped=0) for length in (1, 2, 3, 15, 16, 17)]
    lengths = [len(item.input_ids) for item in tokens]
    assert (len(tokens), min(lengths), max(lengths)) == (60, 1, 512)
    alone = [encoder.encode([item])[0].tobytes() for item in tokens]
    generator = random.Random(3)
    for max_batch_tokens, threads, longest_tokens in ((2048, 0, 512), (8192, 1, 64)):
        del encoder  # or there would be two
        encoder = one_encoder.load(cached, threads=threads, max_batch_tokens=max_batch_tokens)
        order = [position for position, length in enumerate(lengths) if length <= longest_tokens]
        generator.shuffle(order)
        X = encoder.encode([tokens[position] for position in order])
        assert [row.tobytes() for row in X] == [alone[position] for position in order]
    # The longest beside the shortest: everything padded to 512.
    del encoder
    wide = one_encoder.load(cached, max_batch_tokens=10**6)
    short = [position for position, length in enumerate(lengths) if length < 24][::6]
    X = wide.encode([longest, *(tokens[position] for position in short)])
    assert [row.tobytes() for row in X[1:]] == [alone[position] for position in short]


# -- the cache --------------------------------------------------------------------------------------


def test_the_second_use_reads_no_weights(cached: Path) -> None:
    started = time.perf_counter()
    assert cached_artifact(cached.parent.parent) == cached
    assert time.perf_counter() - started < SECOND_USE_SECONDS


def test_the_cached_folder_is_named_after_what_it_was_made_of(cached: Path) -> None:
    assert cached.name == f"embedded-{embedded.cache_key()}"
    assert cached.parent.name == "encoders"
    assert sorted(path.name for path in cached.iterdir()) == ["manifest.json", "model.onnx", "tokenizer.json"]


def test_a_copy_whose_files_were_touched_is_verified_and_kept(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(output: Path) -> None:
        pytest.fail(f"assembled {output} again")

    monkeypatch.setattr(embedded, "assemble", fail)
    (cached / artifact.TOKENIZER).touch()
    assert cached_artifact(cached.parent.parent) == cached


def _in_another_process(cache_dir: Path, results: "multiprocessing.queues.Queue[tuple[str, float]]") -> None:
    folder = cached_artifact(cache_dir)
    # Whoever returns must find it whole.
    artifact.verify_files(folder, artifact.read_manifest(folder))
    results.put((str(folder), (folder / artifact.MODEL).stat().st_mtime))


def test_a_damaged_copy_is_made_again_by_one_of_two_processes_at_once(cached: Path, tmp_path: Path) -> None:
    cache_dir = tmp_path / "cache"
    shutil.copytree(cached.parent, cache_dir / "encoders")
    model = cache_dir / "encoders" / cached.name / artifact.MODEL
    with model.open("r+b") as file:
        file.seek(100_000_000)
        byte = file.read(1)
        file.seek(100_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ArtifactCorrupt, match=r"sha256 of model\.onnx differs"):
        OnnxEncoder(model.parent)
    # What a process that was killed in the middle leaves.
    (model.parent.parent / f".{cached.name}.999999999.new").mkdir()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_in_another_process, args=(cache_dir, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(set(found)) == 1  # the same folder, written once
    assert artifact.read_manifest(model.parent).fingerprint == artifact.read_manifest(cached).fingerprint
    leftovers = [path.name for path in model.parent.parent.iterdir() if path.name.startswith(".")]
    assert leftovers == []


def test_a_process_waits_for_the_one_that_assembles(cached: Path, tmp_path: Path) -> None:
    (tmp_path / "encoders").mkdir()
    found = []
    with (tmp_path / "encoders" / f"{cached.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: found.append(cached_artifact(tmp_path)))
        thread.start()
        shutil.copytree(cached, tmp_path / "encoders" / cached.name, copy_function=os.link)
        thread.join(timeout=0.2)
        assert thread.is_alive()
        assert found == []
    thread.join(timeout=60)
    assert found == [tmp_path / "encoders" / cached.name]


def test_a_cache_that_cannot_be_written_says_which_setting_moves_it(tmp_path: Path) -> None:
    (tmp_path / "encoders").write_text("a file stands where the folder should be")
    with pytest.raises(ExportError, match="ALIGNSTREAM_CACHE_DIR"):
        cached_artifact(tmp_path)


def test_assembling_without_the_wheels_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        weights, "WEIGHTS_FILE", weights.WEIGHTS_FILE._replace(distribution="no-such-package")
    )
    with pytest.raises(WeightsMissing, match="no-such-package"):
        assemble(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_packaged_graph_that_is_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(graph_map.FOLDER, tmp_path / "graph")
    monkeypatch.setattr(embedded, "FOLDER", tmp_path / "graph")
    path = tmp_path / "graph" / graph_map.GRAPH
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ExportError, match="install alignstream again"):
        assemble(tmp_path / "out")


# -- the command line -------------------------------------------------------------------------------


def test_export_embedded_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(torch=None, transformers=None, optimum=None)\n"
        "from alignstream.ops.cli import main\n"
        f"sys.argv = ['alignstream', 'export', 'embedded', '--json', '--output', {str(tmp_path / 'out')!r}]\n"
        "main()"
    )
    done = run(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    manifest = artifact.read_manifest(tmp_path / "out")
    assert printed["fingerprint"] == manifest.fingerprint
    artifact.verify_files(tmp_path / "out", manifest)


def test_export_onnx_without_torch_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules.update(torch=None)\n"
        "from alignstream.ops.cli import main\n"
        "sys.argv = ['alignstream', 'export', 'onnx', '--model', 'embedded', '--output', 'out']\n"
        "main()"
    )
    done = run(code, cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install 'alignstream[export]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.export
def test_a_hub_that_cannot_be_reached_is_said_without_a_traceback(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the export extra")
    # Nothing listens on port 1.
    environment = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path / "hub"), "PATH": ""}
    code = (
        "import sys\nfrom alignstream.ops.cli import main\n"
        "sys.argv = ['alignstream', 'export', 'onnx', '--model', 'some/model', '--output', 'out']\nmain()"
    )
    done = run(code, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert "the model hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


# -- against torch ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, one_encoder: OneEncoder) -> Path:
    pytest.importorskip("torch", reason="needs the export extra")
    one_encoder.drop()
    folder = tmp_path_factory.mktemp("exported")
    done = run(EXPORT, folder / "artifact", cwd=folder, env={**os.environ, "PYTHONPATH": str(SUPPORT)})
    assert done.returncode == 0, done.stderr
    return folder / "artifact"


@pytest.mark.export
def test_a_fresh_export_and_the_assembled_artifact_are_one_encoder(
    cached: Path, one_encoder: OneEncoder, exported: Path
) -> None:
    """With few tokens; that the whole word table is read right, ``test_weights`` says."""
    ours, theirs = artifact.read_manifest(cached), artifact.read_manifest(exported)
    same = (
        "source",
        "revision",
        "family",
        "layer",
        "pooling",
        "dense",
        "prefix",
        "dim",
        "max_tokens",
        "opset",
    )
    assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]
    texts = [text for _, text in parity_texts()[::2]]

    def output(folder: Path) -> tuple[Matrix, list[Matrix]]:
        encoder = one_encoder.load(folder)
        return encoder.encode_texts(texts), encoder.token_matrices(encoder.tokenize(texts[:3]))

    (X, rows), (Y, others) = output(cached), output(exported)
    np.testing.assert_allclose(X, Y, atol=SAME_OUTPUT, rtol=0)
    for a, b in zip(rows, others, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)
    for kept, fresh in zip(ours.golden, theirs.golden, strict=True):
        assert kept.text == fresh.text
        x, y = artifact.decode_vector(kept.vector), artifact.decode_vector(fresh.vector)
        np.testing.assert_allclose(x, y, atol=SAME_OUTPUT, rtol=0)


@pytest.mark.export
def test_the_packaged_graph_is_what_a_fresh_export_gives(exported: Path, tmp_path: Path) -> None:
    """But for the number of tokens."""
    _, kept = embedded._read_template()
    n_tokens = weights.CONFIG["vocab_size"]
    with pytest.MonkeyPatch.context() as patch:
        cut(patch)
        fresh = embedded_graph.write_template(exported, tmp_path / "template")
    assert fresh.fillings == kept.fillings
    graph = onnx.load(str(tmp_path / "template" / graph_map.GRAPH))
    (table,) = [item for item in graph.graph.initializer if item.name == weights.WORD_TABLE]
    assert table.dims[0] < n_tokens / 50
    table.dims[0] = n_tokens
    data = graph.SerializeToString(deterministic=True)
    assert hashlib.sha256(data).hexdigest() == kept.graph_sha256
