"""``EnvSpec`` with the arguments that it had while observations were vectors and actions a Box."""

from collections.abc import Sequence

from jsrl.core.specs import BoxActions, EnvSpec, ObservationSpec, VectorPart


class FormerEnvSpec(EnvSpec):
    """An environment with a vector and real actions; ``jsrl.types.EnvSpec`` is this class.

    Args:
        id: the environment's name.
        observation_size: O; it has to be that of the layout.
        action_size: A; it has to be that of the bounds.
        layout: for each part of the vector its name and its [start, stop) columns.
        action_low: the environment's own lower bounds ``[A]``.
        action_high: the upper ones.
        max_episode_steps: the time limit H.
        action_shape: of one action as ``step`` takes it; None for ``[A]``.
        observation_line: see ``EnvSpec``.
        observation_shapes: of each part; None where each is a vector.
    """

    def __init__(
        self,
        id: str,
        observation_size: int,
        action_size: int,
        layout: Sequence[tuple[str, int, int]],
        action_low: Sequence[float],
        action_high: Sequence[float],
        max_episode_steps: int,
        action_shape: Sequence[int] | None = None,
        observation_line: str | None = None,
        observation_shapes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        plain = [name for name, _, _ in layout] == ["observation"]
        shapes = observation_shapes or [(stop - start,) for _, start, stop in layout]
        parts = (
            VectorPart(() if plain else (name,), tuple(shape))
            for (name, _, _), shape in zip(layout, shapes, strict=True)
        )
        shape = (len(action_low),) if action_shape is None else tuple(action_shape)
        actions = BoxActions(tuple(action_low), tuple(action_high), shape)
        super().__init__(
            id, ObservationSpec(tuple(parts)), actions, max_episode_steps, observation_line
        )
        if (self.observation.size, self.actions.size) != (observation_size, action_size):
            raise ValueError(
                f"observation_size={observation_size} and action_size={action_size} are not those "
                f"of the layout and the bounds, {self.observation.size} and {self.actions.size}"
            )
