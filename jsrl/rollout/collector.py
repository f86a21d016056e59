"""The online collector: guide first, exploration-policy after, every transition labelled.

The collector owns the episode clocks. Each environment of each seed counts its own steps, and its
number of guide steps h is drawn when its episode begins and kept to its end.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.protocols import Curriculum, Guide, Policy, StepObserver, has_memory
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment, TransitionLayout
from jsrl.envs.make import Environments, Step

FIRST_HISTORY = 1_000
"""Steps of an episode for which there is room from the start; it grows as episodes do."""


@dataclass(frozen=True)
class Episode:
    """A finished episode. ``success`` is None where no ``env.success_key`` is set."""

    seed_index: int
    episode_return: float
    success: float | None
    length: int
    guide_steps: int


class Collector:
    """Steps S·E environments with guide and exploration-policy.

    Args:
        environments: S·E of them, those of seed 0 first.
        spec: what they are.
        num_envs: E.
        streams: the seeds; resets, guide steps and action noise are drawn from them.
        device: where the policies are.
    """

    def __init__(
        self,
        environments: Environments,
        spec: EnvSpec,
        num_envs: int,
        streams: Streams,
        device: torch.device,
    ) -> None:
        seeds, count = len(streams), environments.count
        assert count == seeds * num_envs
        self._environments = environments
        self._shape = (seeds, num_envs)
        self._device = device
        self._streams = streams
        self._layout = TransitionLayout(spec.observation_size, spec.action_size)
        self._rows = np.zeros((count, self._layout.width), np.float32)
        self._packed = self._rows.reshape(seeds, num_envs, -1)
        self._observations = np.zeros((count, spec.observation_size), np.float32)
        steps = min(spec.max_episode_steps, FIRST_HISTORY)
        self._history = np.zeros((count, steps, spec.action_size), np.float32)
        self._started = np.zeros(count, bool)
        self._some_ended = True
        self._episode = np.full(count, -1, np.int64)
        self._clock = np.zeros(count, np.int64)
        self._guide_steps = np.zeros(count, np.int64)
        self._stage = np.zeros(count, np.int64)
        self._return = np.zeros(count, np.float64)
        self._success = np.full(count, environments.success_so_far)
        self._everywhere = np.arange(count)
        self._places = self._everywhere % self._shape[1]
        self.observer: StepObserver | None = None
        self.non_finite: Bool[NDArray[np.bool_], " S"] = np.zeros(seeds, bool)

    @property
    def guide_steps(self) -> NDArray[np.int64]:
        """h of the episodes under way, ``[S, E]``."""
        return self._guide_steps.reshape(self._shape)

    def step(
        self, exploration: Policy, guide: Guide | None, curricula: Sequence[Curriculum]
    ) -> tuple[Float[NDArray[np.float32], "S E width"], list[Episode]]:
        """One step of every environment.

        Args:
            exploration: acts where the guide does not; asked at every step, so that its draws do
                not depend on what other seeds' guides do.
            guide: acts in the first h steps of an episode; not called where h is 0.
            curricula: one for each seed.

        Returns:
            The transitions, packed (valid until the next step), and the episodes that ended.
        """
        if self._some_ended:
            self._begin_episodes(guide, curricula)
        by_guide = self._clock < self._guide_steps
        watched = None if self.observer is None else self.observer.begin_step()
        with watched or nullcontext():
            actions = self._act(exploration, guide, by_guide)
        if watched is not None and self.observer is not None:
            self.observer.acted(self._moment(actions, by_guide))
        step = self._environments.step(actions)
        self._pack(actions, step, by_guide)
        episodes = self._count(actions, step)
        self._observations = step.observations
        return self._packed, episodes

    def close(self) -> None:
        self._environments.close()

    def state_dict(self) -> dict[str, Any]:
        """Clocks, and the actions of every unfinished episode, from which it can be replayed."""
        under_way = self._clock * self._started
        times = np.arange(under_way.max(initial=0))
        # Actions of earlier episodes are left out: the same run has the same checkpoint.
        since_reset = (times < under_way[:, None])[..., None]
        history = np.where(since_reset, self._history[:, : len(times)], np.float32(0))
        return {
            "observations": torch.from_numpy(self._observations.copy()),
            "history": torch.from_numpy(history),
            "started": torch.from_numpy(self._started.copy()),
            "episode": torch.from_numpy(self._episode.copy()),
            "clock": torch.from_numpy(self._clock.copy()),
            "guide_steps": torch.from_numpy(self._guide_steps.copy()),
            "stage": torch.from_numpy(self._stage.copy()),
            "return": torch.from_numpy(self._return.copy()),
            "success": torch.from_numpy(self._success.copy()),
            "non_finite": torch.from_numpy(self.non_finite.copy()),
            "streams": self._streams.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], guide: Guide | None) -> list[int]:
        """Continue where ``state_dict`` was taken, by replaying each unfinished episode.

        A simulator cannot in general be put into the middle of an episode. Its reset seed and
        actions are known, though, so the episode is stepped again and its observation compared.
        A guide with memory sees the same observations again.

        Returns:
            The environments that did not replay; new episodes begin there.
        """
        self._observations = state["observations"].numpy().copy()
        self._make_room(state["history"].shape[1])
        self._history[:, : state["history"].shape[1]] = state["history"].numpy()
        self._started = state["started"].numpy().copy()
        self._episode = state["episode"].numpy().copy()
        self._clock = state["clock"].numpy().copy()
        self._guide_steps = state["guide_steps"].numpy().copy()
        self._stage = state["stage"].numpy().copy()
        self._return = state["return"].numpy().copy()
        # In checkpoints of earlier versions NaN until a step says so.
        self._success = np.fmax(state["success"].numpy(), self._environments.success_so_far)
        self.non_finite = state["non_finite"].numpy().copy()
        strayed = self._replay(guide)
        self._started &= ~strayed
        self._some_ended = not self._started.all()
        self._rows[:, self._layout.stage] = self._stage
        self._streams.load_state_dict(state["streams"])
        return [int(i) for i in np.flatnonzero(strayed)]

    def _act(
        self, exploration: Policy, guide: Guide | None, by_guide: Bool[NDArray[np.bool_], " N"]
    ) -> Float[NDArray[np.float32], "N A"]:
        observations = self._on_device(self._observations)
        chosen = exploration.act(observations, self._streams)
        if guide is not None and by_guide.any():
            mask = self._grid(by_guide)
            guided = guide.act(observations, self._streams, mask)
            chosen = torch.where(mask.unsqueeze(-1).to(chosen.device), guided, chosen)
        actions: NDArray[np.float32] = chosen.cpu().numpy().reshape(len(by_guide), -1)
        if not np.isfinite(actions).all():
            actions = self._still(actions)
        return actions

    def _moment(self, actions: NDArray[np.float32], by_guide: NDArray[np.bool_]) -> Moment:
        """The step that is being taken; episodes of a seed's environments are numbered apart."""
        return Moment(
            observations=self._observations,
            actions=actions,
            episodes=self._episode * self._shape[1] + self._places,
            times=self._clock.copy(),
            by_guide=by_guide,
            stages=self._stage.copy(),
            counts=self._started.copy(),
        )

    def _still(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """A seed whose policy is no longer finite stands still and is reported, never dropped."""
        broken = np.logical_not(np.isfinite(actions).all(-1))
        self.non_finite |= broken.reshape(self._shape).any(-1)
        return np.where(broken[:, None], np.float32(0), actions)

    def _pack(self, actions: NDArray[np.float32], step: Step, by_guide: NDArray[np.bool_]) -> None:
        rows, layout = self._rows, self._layout
        rows[:, : layout.observation_size] = self._observations
        rows[:, layout.action] = actions
        rows[:, layout.next_observation] = step.observations
        rows[:, layout.reward] = step.rewards
        rows[:, layout.terminated] = step.terminated
        rows[:, layout.truncated] = step.truncated
        rows[:, layout.by_guide] = by_guide

    def _count(self, actions: NDArray[np.float32], step: Step) -> list[Episode]:
        """Move the clocks on; the episodes that ended."""
        self._make_room(int(self._clock.max()) + 1)
        self._history[self._everywhere, self._clock] = actions
        self._clock += 1
        self._return += step.rewards
        self._success = np.fmax(self._success, step.successes)
        ended = step.terminated | step.truncated
        if not ended.any():
            return []
        self._started &= ~ended
        self._some_ended = True
        return [
            Episode(
                seed_index=int(i) // self._shape[1],
                episode_return=float(self._return[i]),
                success=None if np.isnan(self._success[i]) else float(self._success[i]),
                length=int(self._clock[i]),
                guide_steps=int(min(self._guide_steps[i], self._clock[i])),
            )
            for i in np.flatnonzero(ended)
        ]

    def _make_room(self, steps: int) -> None:
        """Let the history hold so many steps: a time limit may be longer than any episode is."""
        count, room, size = self._history.shape
        if steps > room:
            added = np.zeros((count, max(steps, 2 * room) - room, size), np.float32)
            self._history = np.concatenate([self._history, added], axis=1)

    def _begin_episodes(self, guide: Guide | None, curricula: Sequence[Curriculum]) -> None:
        """Reset every environment without an episode; draw its guide steps."""
        mask = ~self._started
        self._episode[mask] += 1
        for index in np.flatnonzero(mask):
            seed, env = divmod(int(index), self._shape[1])
            streams = self._streams.select(seed).child("episode", env, int(self._episode[index]))
            self._guide_steps[index] = 0 if guide is None else curricula[seed].guide_steps(streams)
            self._stage[index] = curricula[seed].stage
        self._clock[mask] = 0
        self._return[mask] = 0
        self._success[mask] = self._environments.success_so_far
        self._observations = self._environments.reset(mask, self._reset_seeds(mask))
        self._started |= mask
        self._some_ended = False
        self._rows[:, self._layout.stage] = self._stage
        if guide is not None:
            guide.reset(self._grid(mask))

    def _reset_seeds(self, mask: NDArray[np.bool_]) -> list[int]:
        """A reset seed that follows from (seed, environment, episode); 0 outside the mask."""
        seeds = [0] * len(mask)
        for index in np.flatnonzero(mask):
            seed, env = divmod(int(index), self._shape[1])
            streams = self._streams.select(seed)
            seeds[index] = streams.integer("reset", env, int(self._episode[index]))[0]
        return seeds

    def _replay(self, guide: Guide | None) -> Bool[NDArray[np.bool_], " N"]:
        """Reset and step the episodes under way again; which of them came out differently.

        All are to arrive at the same time, since a vector environment steps all or none: the
        longest begins first. Those still waiting are stepped idly and then reset again.
        """
        under_way = self._started
        strayed = np.zeros(len(under_way), bool)
        if not under_way.any():
            return strayed
        everywhere = np.ones(len(under_way), bool)
        seeds = self._reset_seeds(everywhere)
        longest = int(self._clock[under_way].max())
        start = np.where(under_way, longest - self._clock, longest)
        ended = everywhere
        for t in range(longest):
            restarting = ended | (start == t)
            if restarting.any():
                observations = self._environments.reset(restarting, seeds)
            acting = start <= t
            if guide is not None and has_memory(guide):
                self._remind(
                    guide, observations, start == t, acting & (t - start < self._guide_steps)
                )
            past = self._history[self._everywhere, np.maximum(t - start, 0)]
            step = self._environments.step(np.where(acting[:, None], past, np.float32(0)))
            observations = step.observations
            ended = step.terminated | step.truncated
            strayed |= acting & ended
        return strayed | (under_way & (observations != self._observations).any(-1))

    def _remind(
        self,
        guide: Guide,
        observations: NDArray[np.float32],
        begins: NDArray[np.bool_],
        acts: NDArray[np.bool_],
    ) -> None:
        """Show a guide with memory what it saw in a replayed episode."""
        if begins.any():
            guide.reset(self._grid(begins))
        if acts.any():
            guide.act(self._on_device(observations), None, self._grid(acts))

    def _on_device(self, observations: NDArray[np.float32]) -> Float[Tensor, "S E O"]:
        tensor = torch.from_numpy(observations.reshape(*self._shape, -1))
        return tensor if self._device.type == "cpu" else tensor.to(self._device, non_blocking=True)

    def _grid(self, mask: NDArray[np.bool_]) -> Bool[Tensor, "S E"]:
        return torch.from_numpy(mask).view(*self._shape)
