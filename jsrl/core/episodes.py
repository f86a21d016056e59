"""What is known of a training episode once it is over."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Episode:
    """A finished episode. ``success`` is None where no ``env.success_key`` is set.

    ``guide_steps`` are those in which the guide took part.
    """

    seed_index: int
    episode_return: float
    success: float | None
    length: int
    guide_steps: int
    planned_steps: int = 0
    """h of the curriculum, which the episode may have ended before."""
