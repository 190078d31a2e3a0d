"""Judge vectors and adapters task by task, against raw cosine on the same candidates."""
