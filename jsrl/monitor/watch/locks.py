"""A lock for objects that are copied or pickled."""

import threading


class PicklableLock:
    """A lock that may be copied and pickled with what it guards: the copy has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def attempt(self, *, wait: bool) -> bool:
        """Take the lock, and say whether that succeeded; ``release`` has to follow then.

        Args:
            wait: whether to wait for whoever holds it.
        """
        return self._lock.acquire(blocking=wait)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["PicklableLock"], tuple[()]]:
        return PicklableLock, ()
