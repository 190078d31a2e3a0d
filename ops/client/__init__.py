"""Kafka for programs that people run: producing, reading, dead letters, and the typed client."""

from alignstream.ops.client.client import Client
from alignstream.ops.client.results import AlignedVector, Result

__all__ = ["AlignedVector", "Client", "Result"]
