"""What watches policies while they act."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

from jsrl.core.transitions import Moment


class StepObserver(Protocol):
    """Watches policies while they act, and changes nothing."""

    def begin_step(self) -> AbstractContextManager[Any] | None:
        """Called before every step: a context to act in, or None if the step is not watched."""
        ...

    def acted(self, moment: Moment) -> None:
        """Called after a step that is watched, with what was seen and done in it."""
        ...

    def restart(self) -> None:
        """Called when episodes are numbered from 0 again."""
        ...
