"""The compiled step and what it consists of."""
