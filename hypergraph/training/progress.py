"""A progress line on standard error."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO


class Progress:
    """Rewrites one line on a terminal; elsewhere writes a line at most every ``interval`` seconds.

    Args:
        quiet: write nothing.
        stream: default standard error, so that results on standard output stay clean.
        interval: seconds between two updates; default 0.1 on a terminal, 10 elsewhere.
    """

    def __init__(
        self, quiet: bool = False, stream: TextIO | None = None, interval: float | None = None
    ) -> None:
        self.quiet = quiet
        self.stream = sys.stderr if stream is None else stream
        self.on_terminal = self.stream.isatty()
        self.interval = (0.1 if self.on_terminal else 10.0) if interval is None else interval
        self._last = time.monotonic()
        self._width = 0

    def update(self, text: str, force: bool = False) -> None:
        """Show ``text`` if it is time to."""
        now = time.monotonic()
        if self.quiet or (not force and now - self._last < self.interval):
            return
        self._last = now
        if self.on_terminal:
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def line(self, text: str) -> None:
        """Leave ``text`` on a line of its own."""
        if self.quiet:
            return
        self.update(text, force=True)
        if self.on_terminal:
            self.stream.write("\n")
            self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.on_terminal and self._width and not self.quiet:
            self.stream.write("\n")


def bar(done: float, width: int = 20) -> str:
    """A bar that is filled from 0 to 1.

    Example:
        >>> from hypergraph.training.progress import bar
        >>> bar(0.5, 8)
        '####....'
    """
    filled = round(min(max(done, 0.0), 1.0) * width)
    return "#" * filled + "." * (width - filled)
