"""How far a long stage is: a bar on a terminal, lines at intervals in the log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

_LEAST = 2.0  # seconds that a rate needs at least


def format_line(
    stage: str, done: int, total: int, unit: str, seconds: float, extra: Mapping[str, object], resumed: int = 0
) -> str:
    """One line of progress.

    `done` of `total` counts `unit`, `resumed` of which were done before the `seconds` began: rate and time left are
    from the rest. `extra` are further fields, shown as they are.

    >>> format_line("convert", 500, 2000, "images", 2.0, {"rejected": 1})
    'convert: 500 of 2,000 images (25%), 250.0 images/s, 6 s left, rejected 1'
    """
    parts = [f"{done:,} of {total:,} {unit}" + (f" ({100 * done // total}%)" if total else "")]
    worked = done - resumed
    if worked > 0 and seconds > 0:
        rate = worked / seconds
        parts.append(f"{format_rate(rate)} {unit}/s")
        if done < total:
            parts.append(f"{format_duration((total - done) / rate)} left")
    parts += [f"{name} {value}" for name, value in extra.items()]
    return f"{stage}: " + ", ".join(parts)


def format_rate(rate: float) -> str:
    """A rate per second with about three significant digits.

    >>> format_rate(1234.5), format_rate(12.345), format_rate(0.012345)
    ('1,234', '12.3', '0.0123')
    """
    if rate >= 1000:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.3g}"


def format_duration(seconds: float) -> str:
    """A duration in at most two units.

    >>> format_duration(6.4), format_duration(75), format_duration(7300)
    ('6 s', '1 min 15 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class Pace:
    """Units a second from the first progress on: until then processes start and compile, which is no measure."""

    def __init__(self, done: int, now: float) -> None:
        """`done` units are done at the time `now`, in seconds of any clock."""
        self._begun = self._first = self._last = done, now

    @property
    def known(self) -> bool:
        """Whether there has been any progress."""
        return self._last is not self._begun

    def update(self, done: int, now: float) -> None:
        """Takes note of what is done at a time."""
        if done > self._last[0]:
            if not self.known:
                self._first = done, now
            self._last = done, now

    def since(self, now: float, ended: bool = False) -> tuple[int, float]:
        """(units, seconds) whose ratio is the rate; 0 seconds if that is not known yet.

        It is measured up to the last progress, as word of it comes in steps; but a stage that stands still gets slower.
        With `ended` a stage that was too short to tell is measured from its beginning.
        """
        units, seconds = self._last[0] - self._first[0], self._last[1] - self._first[1]
        if now - self._last[1] > seconds:
            seconds = now - self._first[1]
        if units and seconds >= _LEAST:
            return units, seconds
        return (self._last[0] - self._begun[0], now - self._begun[1]) if ended else (units, 0.0)


class StageProgress:
    """Reports a stage of `total` `unit`s.

    If standard error is a terminal, it shows a tqdm bar. Otherwise a line is logged at most every `every` seconds, and
    one at the end.
    `resumed` units count as done before the stage began; rate and time left are measured from the first progress after
    that. Use it as a context manager; `update` may be called as often as is convenient, from one thread at a time.
    """

    def __init__(
        self,
        stage: str,
        total: int,
        unit: str,
        *,
        resumed: int = 0,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage = stage
        self._total = total
        self._unit = unit
        self._every = every
        self._clock = clock
        self._said = clock()
        self._pace = Pace(resumed, self._said)
        self._done = resumed
        self._extra: dict[str, object] = {}
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = tqdm(desc=stage, total=total, unit=f" {unit}", initial=resumed, dynamic_ncols=True)

    def update(self, done: int, **extra: object) -> None:
        """Reports that `done` units in all are done, `resumed` ones included; `extra` fields replace earlier ones."""
        begins = not self._pace.known
        self._pace.update(done, self._clock())
        self._done = done
        self._extra.update(extra)
        if self._bar is not None:
            self._bar.set_postfix(self._extra, refresh=False)
            if begins and self._pace.known:
                self._restart_bar(done)
            self._bar.update(done - self._bar.n)
        elif self._clock() - self._said >= self._every:
            self._say()

    def close(self) -> None:
        """Ends the stage with its last figures."""
        if self._bar is not None:
            self._bar.close()
        else:
            self._say(ended=True)

    def __enter__(self) -> StageProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _restart_bar(self, done: int) -> None:
        """tqdm has a rate of its own, from when it was made."""
        bar = self._bar
        bar.n = bar.initial = bar.last_print_n = done
        bar.start_t = bar.last_print_t = time.time()
        bar.refresh()

    def _say(self, ended: bool = False) -> None:
        self._said = self._clock()
        worked, seconds = self._pace.since(self._said, ended)
        resumed = self._done - worked
        logger.info(format_line(self._stage, self._done, self._total, self._unit, seconds, self._extra, resumed))
