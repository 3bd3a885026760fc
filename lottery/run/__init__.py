"""The run directory: what is done, and the blobs that it consists of."""
