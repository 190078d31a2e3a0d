"""User-facing: command line, client, local stack, administration."""
