"""A trained network taken out of its run directory: files that others open, and a card."""
