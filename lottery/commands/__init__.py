"""The commands of `python -m lottery`, a file each."""
