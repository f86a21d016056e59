"""Online learning from rollouts: collect one, learn from it for some epochs, throw it away."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.protocols import (
    Curriculum,
    Guide,
    LooksBackOnRollouts,
    Metrics,
    OnPolicyLearner,
)
from jsrl.core.rollouts import ExploringStep
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment
from jsrl.envs.make import Step
from jsrl.rollout.collector import Collector, Episode
from jsrl.rollout.rollout_store import RolloutStep, RolloutStore


class OnPolicyRunner:
    """One environment step of every environment at a time, and an update after every rollout.

    A step of the guide is in the rollout too, since the advantages of steps before it would depend
    on it, but it weighs nothing. Its action is known to nobody but the environment: what stands in
    its place is what the exploration-policy would have done.

    Args:
        collector: steps the environments.
        learner: what learns, and acts where the guide does not.
        streams: the order of the steps in an epoch is drawn from them.
        draws: what the learner draws itself comes from these.
        device: where the learner is.
    """

    def __init__(
        self,
        collector: Collector,
        learner: OnPolicyLearner,
        streams: Streams,
        draws: Streams,
        device: torch.device,
    ) -> None:
        needs = learner.rollouts
        self.collector = collector
        self.steps = 0
        self.updates = 0
        self._learner = learner
        self._explorer = _Explorer(learner)
        self._streams = streams
        self._draws = draws
        self._device = device
        self._shape = collector.guide_steps.shape
        self._store = RolloutStore(needs.length, learner.needs.discount, needs.trace, device)
        self._latest: deque[Shaped[Tensor, "S E *A"]] = deque(maxlen=needs.length)

    def step(
        self, guide: Guide | None, curricula: Sequence[Curriculum]
    ) -> tuple[Metrics | None, list[Episode], Float[NDArray[np.float32], " S"]]:
        """Step every environment, and update once the rollout is whole.

        Returns:
            The update's metrics (None without one), each the mean over the minibatches in which a
            seed had a step of its own; the episodes that ended; and for each seed the share of its
            environments in which the guide acted.
        """
        moment, step, episodes = self.collector.step(self._explorer, guide, curricula)
        self._add(moment, step)
        self.steps += self._shape[1]
        metrics = self._learn(self._seen(step.observation)) if self._store.is_full else None
        share = moment.by_guide.reshape(self._shape).mean(1, dtype=np.float32)
        return metrics, episodes, share

    def latest_actions(self, count: int) -> Float[NDArray[Any], "S N A"]:
        """See ``Runner``. As many as a rollout has are held."""
        seeds = self._shape[0]
        steps = torch.stack(list(self._latest), 1)
        rows = steps.reshape(seeds, steps.shape[1] * self._shape[1], -1)
        return rows[:, -count:].float().numpy()

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "updates": self.updates,
            "collector": self.collector.state_dict(),
            "rollout": self._store.state_dict(),
            "latest_actions": torch.stack(list(self._latest)) if self._latest else None,
            "streams": self._streams.state_dict(),
            "draws": self._draws.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], guide: Guide | None) -> list[int]:
        """Continue where ``state_dict`` was taken; the environments that did not replay."""
        self.steps = state["steps"]
        self.updates = state["updates"]
        self._store.load_state_dict(state["rollout"])
        latest = state["latest_actions"]
        self._latest.clear()
        self._latest.extend([] if latest is None else latest.unbind())
        self._streams.load_state_dict(state["streams"])
        self._draws.load_state_dict(state["draws"])
        return self.collector.load_state_dict(state["collector"], guide)

    def _add(self, moment: Moment, step: Step) -> None:
        """Put what was seen and done, and what came of it, into the rollout."""
        needs, explored = self._learner.rollouts, self._explorer.last
        truncated = self._by_seed(step.truncated)
        final_value = torch.zeros(self._shape, device=self._device)
        if step.truncated.any():
            found = self._learner.values(self._seen(step.observation))
            final_value = torch.where(truncated, found, final_value)
        self._latest.append(torch.from_numpy(moment.actions.copy()).unflatten(0, self._shape))
        self._store.add(
            RolloutStep(
                observation=self._seen(moment.observation.copy()),
                action=explored.sample,
                log_prob=explored.log_prob,
                value=explored.value,
                final_value=final_value,
                reward=needs.reward_scale * self._by_seed(step.rewards) + needs.reward_shift,
                terminated=self._by_seed(step.terminated),
                truncated=truncated,
                by_guide=self._by_seed(moment.guided),
            )
        )

    def _learn(self, after: Observation) -> Metrics:
        """Go through the rollout for some epochs, each in an order of its own, and begin another.

        Args:
            after: what was observed after the last step. Where an episode ended with it, its value
                counts for nothing.
        """
        needs, store = self._learner.rollouts, self._store
        store.finish(self._learner.values(after))
        found: list[Metrics] = []
        for _ in range(needs.epochs):
            order = self._streams.permutation("rollout_order", needs.length * self._shape[1])
            for indices in order.to(self._device).split(needs.batch_size, 1):
                batch = store.sample(indices)
                found.append(self._learner.update(batch, self._learner.draws(self._draws)))
                self.updates += 1
        if isinstance(self._learner, LooksBackOnRollouts):
            self._learner.after_rollout(store.observations)
        store.clear()
        return {name: torch.stack([m[name] for m in found], 1).nanmean(1) for name in found[0]}

    def _seen(self, observation: Observation) -> Observation:
        """What N environments observe, ``[S, E]``, where the learner is."""
        return observation.arranged(*self._shape).to(self._device)

    def _by_seed(self, array: NDArray[Any]) -> Shaped[Tensor, "S E"]:
        """One number of each environment, where the learner is; a copy."""
        return torch.from_numpy(array.reshape(self._shape).copy()).to(self._device)


class _Explorer:
    """Acts as the learner explores, and remembers what it said of its last step."""

    last: ExploringStep

    def __init__(self, learner: OnPolicyLearner) -> None:
        self._learner = learner

    def act(self, obs: Observation, streams: Streams | None) -> Shaped[Tensor, "S E *A"]:
        """Drawn actions; the collector, which always explores, gives streams."""
        assert streams is not None
        self.last = self._learner.explore(obs, streams)
        return self.last.action
