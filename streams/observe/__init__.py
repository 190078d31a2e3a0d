"""What is seen from outside: metrics, probes, logs."""
