"""The episodes that are under way while a policy is deployed, in bounded memory."""

from jsrl.monitor.capture.samples import Sample

MOST_STEPS = 256
"""How many steps of an episode are kept in memory, which is more than a test uses."""


class UnfinishedEpisodes:
    """Keeps watched steps by the number of their episode until the episode ends.

    Of a long episode only every second, fourth, … step is kept.
    """

    def __init__(self) -> None:
        self._steps: dict[int, list[Sample]] = {}
        self._strides: dict[int, int] = {}

    def keeps(self, episode: int, count: int) -> bool:
        """Whether the next step of an episode is kept, of which ``count`` were watched before."""
        return count % self._strides.get(episode, 1) == 0

    def add(self, episode: int, step: Sample) -> None:
        """Keep a single step of an episode."""
        steps = self._steps.setdefault(episode, [])
        steps.append(step)
        if len(steps) > MOST_STEPS:
            del steps[1::2]
            self._strides[episode] = 2 * self._strides.get(episode, 1)

    def pop(self, episode: int) -> Sample | None:
        """Take out what was kept of an episode that ended; None if no step of it was watched."""
        steps = self._steps.pop(episode, None)
        self._strides.pop(episode, None)
        return None if steps is None else Sample.concatenate(steps)
