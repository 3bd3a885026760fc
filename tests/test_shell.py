"""Every shell script is one that shellcheck finds nothing in."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", "conf", "demo", "scripts", "tests")


def is_shell(path: Path) -> bool:
    named = path.suffix == ".sh" or path.name == "activate"
    return named or re.match(rb"#!.*\b(ba)?sh\b", path.read_bytes()[:100]) is not None


def scripts() -> list[Path]:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return sorted(path for path in files if path.read_bytes().startswith(b"#") and is_shell(path))


@pytest.mark.parametrize("script", scripts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    # SC1091: what a script sources is there on the user's machine, not here.
    shell = "bash" if b"bash" in script.read_bytes()[:32] else "sh"
    command = [shellcheck, "--shell", shell, "--exclude", "SC1091", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_sees_the_scripts() -> None:
    assert {"run", "activate", "find_python", "gpu_discovery.sh", "machine", "pack"} <= {
        path.name for path in scripts()
    }
