"""Where the tests find experiments."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
DIGITS = str(CONF / "digits.yaml")
