"""Keras models: names, building, pruning points, fingerprints."""
