"""Unfinished episodes are replayed: a simulator cannot in general be put into the middle of one.

Its reset seed and its actions are known, though, so that the episode is stepped again and what is
observed then is compared.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.foreign import has_memory
from jsrl.core.observations import Observation
from jsrl.core.protocols import Guide, SeesAgain
from jsrl.rollout.stepper import Stepper


def replay(
    stepper: Stepper,
    under_way: Bool[NDArray[np.bool_], " N"],
    seeds: list[int],
    history: Shaped[NDArray[Any], "N T *A"],
    guide: Guide | None,
    asked: Bool[NDArray[np.bool_], "N T"] | None = None,
) -> Bool[NDArray[np.bool_], " N"]:
    """Reset and step the episodes under way again.

    All are to arrive at the same time, since a vector environment steps all or none: the longest
    begins first. Those still waiting are stepped idly and then reset again. A guide with memory
    sees the same observations again.

    Args:
        stepper: whose clocks, h and observation are those to arrive at; they stay as they are.
        under_way: which environments are in an episode.
        seeds: of their resets.
        history: the actions of each episode so far.
        guide: of the run.
        asked: in which steps of each episode the guide was asked; None where the clock says so.

    Returns:
        The environments that came out differently.
    """
    strayed = np.zeros(len(under_way), bool)
    if not under_way.any():
        return strayed
    environments, clock = stepper.environments, stepper.clock
    longest = int(clock[under_way].max())
    start = np.where(under_way, longest - clock, longest)
    ended, everywhere = np.ones(len(under_way), bool), np.arange(len(under_way))
    remembers = guide is not None and has_memory(guide)
    for t in range(longest):
        restarting = ended | (start == t)
        if restarting.any():
            observation = environments.reset(restarting, seeds)
        acting = start <= t
        if guide is not None and remembers:
            times = t - start
            led = stepper.acts_by_clock(times)
            if asked is not None:
                led = asked[everywhere, np.maximum(times, 0)]
            guided = acting & led
            if (start == t).any():
                stepper.begin_guide(guide, start == t, seeds)
            if guided.any():
                seen = observation.arranged(*stepper.shape).to(stepper.device)
                remind(guide, seen, stepper.by_seed(guided))
        past = history[everywhere, np.maximum(t - start, 0)]
        idle = stepper.idle_actions(len(acting))
        step = environments.step(np.where(_wide(acting, past), past, idle))
        observation = step.observation
        ended = step.terminated | step.truncated
        strayed |= acting & ended
    return strayed | (under_way & ~same(observation, stepper.observation))


def same(one: Observation, other: Observation) -> Bool[NDArray[np.bool_], " N"]:
    """Where two observations of N environments are equal."""
    equal = (one.vector == other.vector).all(-1)
    for name, image in one.images.items():
        equal &= (image == other.images[name]).flatten(1).all(-1)
    found: NDArray[np.bool_] = equal.numpy()
    return found


def remind(guide: Guide, seen: Observation, mask: Bool[Tensor, "S E"]) -> None:
    """Show a guide with memory what it saw, ``[S, E]``, in some rows of a replayed episode."""
    if isinstance(guide, SeesAgain):
        guide.see_again(seen, mask)
    else:
        guide.act(seen, None, mask)


def _wide(mask: NDArray[np.bool_], actions: NDArray[Any]) -> NDArray[np.bool_]:
    return mask.reshape(-1, *[1] * (actions.ndim - 1))
