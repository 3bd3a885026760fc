"""A JPEG decoder that does to its process what a mark after an image says, for the processes of a job."""

from __future__ import annotations

from pathlib import Path

# Python runs a module of this name first in every process whose path has it.
_SITECUSTOMIZE = """
import os, signal, sys

if {"pyspark.daemon", "preprocessing.images.decoder_process", "--child"} & set(sys.orig_argv):
    import simplejpeg

    real = simplejpeg.decode_jpeg
    spoilt = []

    def decode_jpeg(data, *arguments, **options):
        if b"mark: segv" in data or spoilt:
            os.kill(os.getpid(), signal.SIGSEGV)
        if b"mark: abort" in data:
            os.abort()
        if b"mark: exit" in data:
            os._exit(9)
        if b"mark: killed" in data:
            os.kill(os.getpid(), signal.SIGKILL)
        if b"mark: orphan" in data:
            if sys.orig_argv[-1] == "1":  # forked for this image
                os.kill(os.getppid(), signal.SIGKILL)
            os._exit(9)
        while b"mark: loop" in data:
            pass
        if b"mark: spoil" in data:
            spoilt.append(True)  # whoever is decoded next suffers from it
        return real(data, *arguments, **options)

    simplejpeg.decode_jpeg = decode_jpeg
"""


def write_treachery(folder: Path) -> Path:
    """Writes what makes decoders treacherous; the folder belongs on the processes' PYTHONPATH."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return folder
