"""Replay streams as the service sees them: each query is answered with the state at its arrival."""
