"""Observability: metrics, health probes and logs."""
