"""Service, bare loop and naive agent in turn, on the same texts: how fast each of them is.

Rates are tokens a second, so that rounds of different texts compare. One runs at a time: the others wait
for messages meanwhile.
"""

import contextlib
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from alignstream.export.weights import write_checkpoint
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.ops.demo import measure
from alignstream.ops.embedded.processes import Server
from alignstream.ops.embedded.stack import Stack
from alignstream.ops.encoder import open_encoder
from alignstream.ops.topics import create_topics
from alignstream.streams.sensors import STAGES
from alignstream.streams.settings import Settings

from tests.bench import naive_topics, service
from tests.bench.report import Figure, median_ratio
from tests.bench.service import BenchFailed, Emitted, Probe
from tests.bench.workload import Item, items
