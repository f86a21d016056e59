"""A lock for objects that are copied or pickled."""

import threading


class PicklableLock:
    """A lock that may be copied and pickled with what it guards: the copy has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type["PicklableLock"], tuple[()]]:
        return PicklableLock, ()
