"""How far a sweep is, while it runs, from what lies in its run directory."""
