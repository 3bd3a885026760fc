"""What trained tickets have in common: `python -m lottery analyze`."""
