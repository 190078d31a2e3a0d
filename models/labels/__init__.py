"""Label sets, zero-shot scores, and what is fitted to a set."""
