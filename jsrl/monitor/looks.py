"""The episodes under way of a policy that is deployed: a bounded number of looks at each."""

from jsrl.monitor.detector import Sample, together

MOST_LOOKS = 256
"""Looks at an episode that are kept in memory; there are more than a test uses."""


class Looks:
    """Keeps looks by the number of their episode: of a long one every second, fourth, … only."""

    def __init__(self) -> None:
        self._looks: dict[int, list[Sample]] = {}
        self._strides: dict[int, int] = {}

    def wants(self, episode: int, count: int) -> bool:
        """Whether a look is to be kept before which there were ``count`` at the same episode."""
        return count % self._strides.get(episode, 1) == 0

    def add(self, episode: int, look: Sample) -> None:
        """Keep a look: one row."""
        looks = self._looks.setdefault(episode, [])
        looks.append(look)
        if len(looks) > MOST_LOOKS:
            del looks[1::2]
            self._strides[episode] = 2 * self._strides.get(episode, 1)

    def pop(self, episode: int) -> Sample | None:
        """All that was kept of an episode that ended; None where there was no look at it."""
        looks = self._looks.pop(episode, [])
        self._strides.pop(episode, None)
        return together(looks) if looks else None
