"""The people's side: command line, client, local stack, administration."""
