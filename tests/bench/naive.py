"""The naive agent as a process, on topics of its own: see ``naive_app``."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from alignstream.export.encoders.weights import write_checkpoint
from alignstream.ops.client.connection import open_admin
from alignstream.ops.local.server import Server
from alignstream.ops.local.stack import Stack
from alignstream.streams.settings import Settings

SOURCE: Final = "naive.documents"
TARGET: Final = "naive.vectors"
APP: Final = Path(__file__).with_name("naive_app.py")
READY_SECONDS: Final = 120.0


@contextlib.contextmanager
def running(stack: Stack, settings: Settings) -> Iterator[Server]:
    """Run the naive agent for one block of code; the weights are written as a torch checkpoint first."""
    folder = stack.folder / "naive"
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    write_checkpoint(checkpoint)
    topic = {"num_partitions": 4, "replication_factor": 1}
    with open_admin(settings) as admin:
        admin.create_topics({SOURCE: topic, TARGET: topic}, raise_errors=True)
        admin.wait_for_topics([SOURCE, TARGET], timeout_ms=20_000)
    command = [sys.executable, "-P", str(APP), "--datadir", str(folder / "data"), "worker", "--without-web"]
    server = Server(
        "naive",
        command,
        folder=folder,
        is_ready=lambda process: "partitions assigned" in process.log(),
        ready_seconds=READY_SECONDS,
        environment={
            **os.environ,
            "NAIVE_BROKER": stack.broker.address,
            "NAIVE_CHECKPOINT": str(checkpoint),
            "NAIVE_SESSION_SECONDS": str(settings.session_timeout_seconds),
            "TOKENIZERS_PARALLELISM": "false",
        },
    )
    with server:
        yield server
