"""Signals that tell the runner to stop. Standard library only."""

import signal


class Stop:
    """signal: the number of the first signal received, or 0. Further signals change nothing."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: object) -> None:
        self.signal = self.signal or number
