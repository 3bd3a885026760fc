"""Where the tests find experiments."""

from pathlib import Path

CONF = Path(__file__).parents[2] / "conf"
DIGITS = str(CONF / "digits.yaml")
