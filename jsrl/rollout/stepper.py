"""The one place that steps environments with a guide and an exploration-policy.

Collector, evaluator, collection of data sets and resuming are made of it. It holds the clocks: each
environment counts the steps of its episode, and the guide acts in the first h of them.

Shapes: S seeds, E environments of a seed, N = S·E, those of seed 0 first, A action size.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.observations import Observation, zeros_of
from jsrl.core.protocols import Guide, Policy, StepObserver
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment
from jsrl.envs.make import Environments, Step


class Stepper:
    """N environments, the episodes that they are in, and who acts in them.

    Args:
        environments: N of them.
        spec: what they are.
        num_seeds: S.
        device: where the policies are.
    """

    def __init__(
        self, environments: Environments, spec: EnvSpec, num_seeds: int, device: torch.device
    ) -> None:
        count = environments.count
        self.environments = environments
        self.spec = spec
        self.device = device
        self.shape = (num_seeds, count // num_seeds)
        self.observer: StepObserver | None = None
        self.observation: Observation = zeros_of(spec.observation, count)
        self.episodes = np.full(count, -1, np.int64)
        """The number of each environment's episode; -1 where it only keeps others company."""
        self.clock = np.zeros(count, np.int64)
        self._nowhere = np.zeros(count, bool)
        self.guide_steps = np.zeros(count, np.int64)
        """h of each episode."""
        self.stages = np.full(count, -1, np.int64)
        self.returns = np.zeros(count, np.float64)
        self.successes = np.full(count, environments.success_so_far)
        self.some_ended = True
        self.ended = np.ones(count, bool)
        """Where there is no episode to go on with."""
        self.non_finite = np.zeros(num_seeds, bool)
        """The seeds of which an action ever was not finite."""

    def begin(
        self, mask: Bool[NDArray[np.bool_], " N"], seeds: list[int], guide: Guide | None
    ) -> None:
        """Begin episodes where ``mask``; their numbers and h are set before.

        Args:
            mask: which environments.
            seeds: of the resets, N; those outside of the mask are not looked at.
            guide: told that episodes begin.
        """
        self.clock = np.where(mask, 0, self.clock)
        self.returns[mask] = 0
        self.successes[mask] = self.environments.success_so_far
        self.observation = self.environments.reset(mask, seeds)
        self.ended = self.ended & ~mask
        self.some_ended = bool(self.ended.any())
        if guide is not None:
            guide.reset(self.by_seed(mask))

    def guide_acts(self) -> Bool[NDArray[np.bool_], " N"]:
        """Where the guide acts in the step to come: in the first h steps of an episode."""
        return (self.episodes >= 0) & (self.clock < self.guide_steps)

    def step(
        self, explorer: Policy | None, guide: Guide | None, streams: Streams, *, explores: bool
    ) -> tuple[Moment, Step]:
        """One step of every environment.

        Args:
            explorer: acts where the guide does not; None where the guide acts throughout.
            guide: acts in the first steps of an episode; not called where it acts nowhere.
            streams: the guide's draws come from them, and the explorer's if it explores.
            explores: whether the explorer samples. It is asked at every step then, so that its
                draws do not depend on what other seeds' guides do. Otherwise it acts by its mode,
                and is asked only where a row needs it.

        Returns:
            What was done, valid until episodes begin, and what came of it. Rows whose actions were
            not finite stood still.
        """
        by_guide = self._nowhere if guide is None else self.guide_acts()
        watched = None if self.observer is None else self.observer.begin_step()
        with watched or nullcontext():
            actions = self._act(explorer, guide, streams, by_guide, explores)
        moment = Moment(
            self.observation,
            actions,
            self.episodes,
            self.clock,
            by_guide,
            self.stages,
            self.episodes >= 0,
        )
        if watched is not None and self.observer is not None:
            # Episodes and stages are changed in place when the next ones begin.
            episodes, stages = self.episodes.copy(), self.stages.copy()
            self.observer.acted(replace(moment, episodes=episodes, stages=stages))
        return moment, self.take(actions)

    def take(self, actions: Shaped[NDArray[Any], "N *A"]) -> Step:
        """Step every environment with actions that are known, and move the clocks on."""
        step = self.environments.step(actions)
        self.observation = step.observation
        # A new array, since the moment before holds this one.
        self.clock = self.clock + 1
        self.returns += step.rewards
        self.successes = np.fmax(self.successes, step.successes)
        self.ended = step.terminated | step.truncated
        self.some_ended = bool(self.ended.any())
        return step

    def idle_actions(self, *leading: int) -> NDArray[Any]:
        """Actions of environments in which nobody acts: zeros, or the first choice."""
        actions = self.spec.actions
        kind = np.float32 if isinstance(actions, BoxActions) else np.int64
        return np.zeros((*leading, *actions.chosen_shape), kind)

    def by_seed(self, mask: NDArray[np.bool_]) -> Bool[Tensor, "S E"]:
        """A mask of the environments, ``[S, E]``."""
        return torch.from_numpy(mask).view(*self.shape)

    def seen(self) -> Observation:
        """What is observed now, ``[S, E]``, where the policies are."""
        return self.observation.arranged(*self.shape).to(self.device)

    def _act(
        self,
        explorer: Policy | None,
        guide: Guide | None,
        streams: Streams,
        by_guide: Bool[NDArray[np.bool_], " N"],
        explores: bool,
    ) -> Shaped[NDArray[Any], "N *A"]:
        seen, chosen = self.seen(), None
        explorer_is_needed = explores or bool(((self.episodes >= 0) & ~by_guide).any())
        if explorer is not None and explorer_is_needed:
            chosen = explorer.act(seen, streams if explores else None)
        if guide is not None and by_guide.any():
            mask = self.by_seed(by_guide)
            guided = guide.act(seen, streams, mask)
            if chosen is None:
                chosen = guided
            else:
                mask = mask.to(chosen.device)
                wide = mask if chosen.dim() == mask.dim() else mask.unsqueeze(-1)
                chosen = torch.where(wide, guided, chosen)
        if chosen is None:
            return self.idle_actions(len(by_guide))
        actions: NDArray[Any] = chosen.cpu().numpy().reshape(len(by_guide), *chosen.shape[2:])
        return self._standing_still(actions)

    def _standing_still(self, actions: Shaped[NDArray[Any], "N *A"]) -> NDArray[Any]:
        """The actions, but zeros in rows that are not finite, as those of a seed that failed."""
        if actions.dtype.kind == "i" or np.isfinite(actions).all():
            return actions
        broken = np.logical_not(np.isfinite(actions).all(-1))
        self.non_finite |= broken.reshape(self.shape).any(-1)
        return np.where(broken[:, None], np.float32(0), actions)


class Watched:
    """What steps environments by a stepper of its own, and may be watched."""

    _stepper: Stepper

    @property
    def observer(self) -> StepObserver | None:
        """What watches the policies act."""
        return self._stepper.observer

    @observer.setter
    def observer(self, observer: StepObserver | None) -> None:
        self._stepper.observer = observer
