"""What has to be looked after while the collector runs: a thread that does it now and then."""

import logging
import threading
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0


class Upkeep:
    """Calls each task once in an interval, and a last time when it is stopped."""

    def __init__(
        self, tasks: Sequence[Callable[[], object]], interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        """Look after these."""
        self._tasks = tasks
        self._interval_seconds = interval_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, when each task was called once more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(self._interval_seconds)
            for task in self._tasks:
                self._call(task)

    def _call(self, task: Callable[[], object]) -> None:
        try:
            task()
        except Exception:
            # One that fails in an unforeseen way must not end the others.
            log.exception("upkeep failed")
