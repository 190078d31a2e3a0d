"""Faust and the broker: transport, service, watchdog, connections."""
