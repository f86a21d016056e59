"""Online learning: collect a step, store it, learn from a mixture of old and new."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from jsrl.core.protocols import Curriculum, Guide, Learner, Metrics
from jsrl.core.streams import Streams
from jsrl.rollout.collector import Collector, Episode
from jsrl.rollout.learning import learn
from jsrl.rollout.replay import Replay
from jsrl.rollout.transition_store import TransitionStore


class OnlineRunner:
    """One environment step of every environment at a time, with the updates that are due for it.

    Args:
        collector: steps the environments.
        buffer: where transitions go; ``replay`` reads from it.
        replay: minibatches.
        learner: what learns, and acts where the guide does not.
        streams: minibatch indices are drawn from them.
        draws: what the learner draws itself, such as dropout masks, comes from these.
        num_envs: E.
        updates_per_step: updates for each environment step of a seed, also below 1.
        learning_starts: environment steps of a seed before the first update.
    """

    def __init__(
        self,
        collector: Collector,
        buffer: TransitionStore,
        replay: Replay,
        learner: Learner,
        streams: Streams,
        draws: Streams,
        num_envs: int,
        updates_per_step: float,
        learning_starts: int,
    ) -> None:
        self.collector = collector
        self.buffer = buffer
        self.steps = 0
        self.updates = 0
        self._replay = replay
        self._learner = learner
        self._policy = learner.policy()
        self._streams = streams
        self._draws = draws
        self._num_envs = num_envs
        self._updates_per_step = updates_per_step
        self._learning_starts = learning_starts

    def step(
        self, guide: Guide | None, curricula: Sequence[Curriculum]
    ) -> tuple[Metrics | None, list[Episode], Float[NDArray[np.float32], " S"]]:
        """Step every environment, then update.

        Returns:
            The last update's metrics (None without one), the episodes that ended, and for each
            seed the share of its environments in which the guide acted.
        """
        moment, step, episodes = self.collector.step(self._policy, guide, curricula)
        self.buffer.add(moment, step)
        self.steps += self._num_envs
        due = int((self.steps - self._learning_starts) * self._updates_per_step)
        metrics = None
        while self.updates < due:
            metrics = learn(self._learner, self._replay, self._streams, self._draws)
            self.updates += 1
        share = moment.by_guide.reshape(-1, self._num_envs).mean(1, dtype=np.float32)
        return metrics, episodes, share

    def latest_actions(self, count: int) -> Float[NDArray[Any], "S N A"]:
        """See ``Runner``."""
        return self.buffer.latest_actions(count)

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "updates": self.updates,
            "collector": self.collector.state_dict(),
            "buffer": self.buffer.state_dict(),
            "streams": self._streams.state_dict(),
            "draws": self._draws.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], guide: Guide | None) -> list[int]:
        """Continue where ``state_dict`` was taken; the environments that did not replay."""
        self.steps = state["steps"]
        self.updates = state["updates"]
        self.buffer.load_state_dict(state["buffer"])
        self._streams.load_state_dict(state["streams"])
        self._draws.load_state_dict(state.get("draws", state["streams"]))
        return self.collector.load_state_dict(state["collector"], guide)
