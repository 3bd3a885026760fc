"""Decodes in another process, which may die or hang. That process runs this module."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import IO, NoReturn

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing.images.decode import CRASH, TIMEOUT, Rejected, decode

# Processor time for one image; the largest take two seconds. By the clock the limit is ten times as long.
SECONDS = 60
_LENGTH_BYTES = 8
_TEXT_BYTES = 4096
# How decoding ended, as the exit status of the process that decoded.
_DECODED, _REJECTED, _NO_MEMORY, _BUG = 0, 71, 72, 73


class DecoderDiedError(Exception):
    """The process that decodes has died. Any image that it has seen may be the cause, by corrupting its memory."""


class Answer(msgspec.Struct):
    """What became of an image: an exit status or the signal that ended its process; the processor time."""

    status: int
    signal: int = 0
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0

    @property
    def has_pixels(self) -> bool:
        """Whether the pixels follow."""
        return self.status == _DECODED and not self.signal


class DecoderProcess:
    """Decodes as `images.decode` does, in a child process or, with `per_image`, in a new process for every image.

    One child costs next to nothing, and `decode` raises DecoderDiedError if it dies. A process per image costs a fork,
    and rejects an image that kills or hangs its decoder. The child ends when this object is closed or its process dies.
    `seconds` limits the processor time of an image; `seconds_spent` is that of all images so far.
    """

    def __init__(self, size: int, *, per_image: bool, seconds: int = SECONDS) -> None:
        self._size, self._seconds = size, seconds
        self.seconds_spent = 0.0
        # Files that spark-submit was given with --py-files are on this path and on no other.
        path = os.pathsep.join(folder for folder in sys.path if folder)
        self._child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "preprocessing.images.decoder_process",
                str(size),
                str(seconds),
                str(int(per_image)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},  # a process that forks may have no threads
            start_new_session=True,
        )

    def decode(self, data: bytes, size: int, out: NDArray[np.uint8]) -> None:
        """Decodes into `out`, uint8 [size, size, 3].

        Raises `Rejected`, DecoderDiedError, and MemoryError if memory ran out or the decoder was killed from outside,
        which is not the image's fault.
        """
        assert size == self._size
        answer = self._ask(data, out)
        if answer.signal:
            self._explain(answer.signal)
        elif answer.status == _REJECTED:
            raise Rejected(answer.reason, answer.detail)
        elif answer.status == _NO_MEMORY:
            raise MemoryError(answer.detail)
        elif answer.status == _BUG:
            raise RuntimeError(answer.detail)
        elif answer.status != _DECODED:
            raise Rejected(CRASH, f"its decoder ended its process with status {answer.status}")

    def _ask(self, data: bytes, out: NDArray[np.uint8]) -> Answer:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
            self._child.stdin.flush()
            answer = msgspec.json.decode(self._child.stdout.readline(), type=Answer)
            self.seconds_spent += answer.seconds
            if answer.has_pixels:
                out[:] = np.frombuffer(_read_all(self._child.stdout, out.size), np.uint8).reshape(out.shape)
        except (BrokenPipeError, EOFError, ValueError) as error:
            raise DecoderDiedError from error
        return answer

    def _explain(self, number: int) -> NoReturn:
        name = signal.Signals(number).name
        if number in (signal.SIGPROF, signal.SIGALRM):
            raise Rejected(TIMEOUT, f"decoding takes more than {self._seconds} s")
        # From the kernel when memory runs out, and from cluster managers that want a task to end.
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            raise MemoryError(f"its decoder was killed from outside ({name}), as when memory runs out")
        raise Rejected(CRASH, f"its decoder died of {name}")

    def __enter__(self) -> DecoderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.communicate()


def _read_all(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


class _Server:
    """The child's side: answers requests. A request is a length and that many bytes."""

    def __init__(self, size: int, seconds: int, per_image: bool) -> None:
        self._size, self._seconds, self._per_image = size, seconds, per_image
        # Pixels, or why there are none; shared with the processes that decode.
        self._result = mmap.mmap(-1, max(size * size * 3, _TEXT_BYTES))

    def run(self, requests: IO[bytes], answers: IO[bytes]) -> None:
        while length := requests.read(_LENGTH_BYTES):
            data = _read_all(requests, int.from_bytes(length, "little"))
            answer = self._decode_in_fork(data) if self._per_image else self._decode_here(data)
            if answer.status in (_REJECTED, _NO_MEMORY, _BUG):
                text = self._result[:_TEXT_BYTES].rstrip(b"\0")
                answer.reason, answer.detail = msgspec.json.decode(text, type=tuple[str, str])
            answers.write(msgspec.json.encode(answer) + b"\n")
            if answer.has_pixels:
                answers.write(self._result[: self._size * self._size * 3])
            answers.flush()

    def _decode_here(self, data: bytes) -> Answer:
        # Not the process's time: while a timer limits that, the kernel updates it at its ticks only, and most images
        # take less than one.
        started = time.thread_time()
        status = self._decode(data)
        return Answer(status, seconds=time.thread_time() - started)

    def _decode_in_fork(self, data: bytes) -> Answer:
        process = os.fork()
        if not process:
            status = _BUG
            try:
                status = self._decode(data)
            finally:
                os._exit(status)
        _, ended, used = os.wait4(process, 0)
        seconds = used.ru_utime + used.ru_stime
        if os.WIFSIGNALED(ended):
            return Answer(_DECODED, os.WTERMSIG(ended), seconds=seconds)
        return Answer(os.WEXITSTATUS(ended), seconds=seconds)

    def _decode(self, data: bytes) -> int:
        self._limit(self._seconds)
        size = self._size
        try:
            decode(data, size, np.frombuffer(self._result, np.uint8, size * size * 3).reshape(size, size, 3))
        except Rejected as error:
            return self._fail(_REJECTED, error.reason, error.detail)
        except MemoryError as error:
            return self._fail(_NO_MEMORY, "", str(error) or "memory ran out")
        except Exception as error:
            return self._fail(_BUG, "", f"{type(error).__name__}: {error}")
        finally:
            self._limit(0)
        return _DECODED

    def _limit(self, seconds: int) -> None:
        """Has the kernel end this process after this processor time, or ten times as long by the clock; 0: never."""
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.alarm(10 * seconds)

    def _fail(self, status: int, reason: str, detail: str) -> int:
        self._result[:_TEXT_BYTES] = msgspec.json.encode((reason, detail[:500])).ljust(_TEXT_BYTES, b"\0")
        return status


def main() -> None:
    """The child: size, seconds and per_image (0 or 1) on the command line, requests on standard input."""
    cv2.setNumThreads(1)
    Image.preinit()  # now, and not in the time of an image, nor in each process that is forked for one
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected here
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    size, seconds, per_image = map(int, sys.argv[1:])
    _Server(size, seconds, bool(per_image)).run(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
