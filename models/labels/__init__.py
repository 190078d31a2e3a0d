"""Label sets, zero-shot scores, and fitting a label set to texts."""
