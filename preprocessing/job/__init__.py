"""The job from a source to a dataset."""
