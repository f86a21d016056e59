"""What a curriculum has to offer, and abilities that only some have."""

from typing import Protocol, Self, runtime_checkable

from jsrl.core.episodes import Episode
from jsrl.core.streams import Streams


class Curriculum(Protocol):
    """How long the guide acts. A pure value of one seed: same inputs, same steps."""

    @property
    def stage(self) -> int: ...

    def guide_steps(self, streams: Streams) -> int:
        """The number h of guide steps of one episode, drawn at its start and kept to its end."""
        ...

    def advance(self, evaluation: float, step: int) -> Self:
        """The curriculum after an evaluation at environment step ``step``."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A curriculum of which it is known when no evaluation changes its guide steps any more."""

    @property
    def is_settled(self) -> bool:
        """Whether they stay what they are, whatever evaluations there are."""
        ...


@runtime_checkable
class LearnsFromEpisodes(Protocol):
    """A curriculum that goes by how training episodes end, and so needs no evaluations."""

    def observe(self, episode: Episode) -> Self:
        """The curriculum after a training episode of its seed."""
        ...
