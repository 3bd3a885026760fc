"""Bytes of a raw image -> uint8 [size, size, 3]."""
