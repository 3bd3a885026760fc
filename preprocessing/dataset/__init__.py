"""The dataset's format: written, opened, read and verified."""
