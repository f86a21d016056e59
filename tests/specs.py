"""Specs of environments and observations, made by hand in one line."""

from collections.abc import Sequence
from dataclasses import replace

from jsrl.core.specs import BoxActions, EnvSpec, ObservationSpec, VectorPart

Layout = Sequence[tuple[str, int, int]]


def vector(size: int | Layout) -> ObservationSpec:
    """Of a vector: one part called ``observation``, or parts with [start, stop) columns."""
    if isinstance(size, int):
        return ObservationSpec((VectorPart((), (size,)),))
    return ObservationSpec(
        tuple(VectorPart((name,), (stop - start,)) for name, start, stop in size)
    )


def box(low: Sequence[float], high: Sequence[float]) -> BoxActions:
    """Actions within these bounds."""
    return BoxActions(tuple(low), tuple(high), (len(low),))


def box_spec(
    env_id: str,
    observation: int | Layout,
    low: Sequence[float],
    high: Sequence[float],
    max_episode_steps: int,
) -> EnvSpec:
    """Of an environment with a vector and real actions."""
    return EnvSpec(env_id, vector(observation), box(low, high), max_episode_steps)


def bounded(spec: EnvSpec, env_id: str, low: Sequence[float], high: Sequence[float]) -> EnvSpec:
    """The same environment under another name, with other bounds of actions."""
    return replace(spec, id=env_id, actions=box(low, high))
