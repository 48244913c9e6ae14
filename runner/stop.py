"""The one thing that a signal says to us: stop. Standard library only."""

import signal


class Stop:
    """told: the number of the first signal that said so, else 0. A second one changes nothing."""

    def __init__(self) -> None:
        self.told = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, number: int, _frame: object) -> None:
        self.told = self.told or number
