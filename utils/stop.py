"""Asked to stop by a signal: finish the step, save, leave with a code that says "run me again"."""

import signal
from types import FrameType

EXIT_REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: a temporary failure, the caller is invited to try again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopRequest:
    """Catches SIGTERM, SIGINT and SIGUSR1 while it is open; a second SIGINT interrupts at once.

    Attributes:
        received: name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._old = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name

    def close(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
