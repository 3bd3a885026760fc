"""Dataset -> batches, in canonical order."""
