"""Hindsight: what a goal environment's steps would have been worth under goals reached later.

Andrychowicz et al. 2017, arXiv 1707.01495, section 4.5, strategy ``future``: k of k + 1 transitions
of a minibatch get as their goal what was achieved at a later step of the same episode.

Shapes: S seeds, B transitions of a minibatch, G numbers of a goal.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.foreign import ComputesReward, ComputesTermination
from jsrl.core.protocols import Draws
from jsrl.core.returns import UNKNOWN
from jsrl.core.specs import ObservationSpec
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.rollout.packing import RETURN_TO_GO, PackedTransitions
from jsrl.rollout.transition_store import TransitionStore

ACHIEVED = "achieved_goal"
DESIRED = "desired_goal"


class Hindsight:
    """Minibatches from a store, some of their transitions under other goals.

    The new goal is drawn evenly from what the successors achieve, from the transition itself to
    the end of its episode, or to the newest step of one that goes on. Rewards are computed anew by
    the environment; so is ``terminated`` where the environment has ``compute_terminated``, and
    elsewhere it stays.

    Args:
        store: of single steps.
        spec: of the observations, whose vector has an achieved and a desired goal.
        environment: the environment itself, without its wrappers.
        env_id: its name, for messages.
        k: so many transitions get another goal for each that keeps its own.

    Raises:
        UserError: if the environment has no ``compute_reward`` or no goals, k is negative, or the
            store is one of n-step returns or of the guide's actions.
    """

    def __init__(
        self,
        store: TransitionStore,
        spec: ObservationSpec,
        environment: object,
        env_id: str,
        k: float = 4,
    ) -> None:
        if not isinstance(environment, ComputesReward):
            raise UserError(
                f"replay.relabel=her needs an environment with compute_reward, which {env_id} does "
                "not have; choose a goal environment, such as those of Gymnasium-Robotics, or "
                "leave replay.relabel out"
            )
        columns = {name: slice(start, stop) for name, start, stop in spec.layout}
        missing = [name for name in (ACHIEVED, DESIRED) if name not in columns]
        if missing:
            raise UserError(
                f"replay.relabel=her needs observations with numbers called {' and '.join(missing)}"
                f", and {env_id} observes {', '.join(columns)}; leave replay.relabel out"
            )
        if store.n_step > 1:
            raise UserError(
                f"replay.relabel=her is for single steps, and n_step={store.n_step}: rewards in "
                "between would belong to other goals; set n_step to 1"
            )
        if store.layout.next_guide:
            raise UserError(
                "replay.relabel=her gives transitions other goals, under which it is not known "
                "what the guide would do; leave replay.relabel out, or take a rule of who acts "
                "that makes no targets"
            )
        if k < 0:
            raise UserError(f"k={k} goals from hindsight for each real one; 0 or more was expected")
        self.store = store
        self.share = k / (k + 1)
        self._environment = environment
        self._env_id = env_id
        self._achieved = columns[ACHIEVED]
        self._desired = columns[DESIRED]

    def draws(self, streams: Streams, count: int) -> Draws:
        """Which of ``count`` transitions get another goal, and which one: uniform, ``[S, B]``."""
        return {
            "relabel": streams.uniform("hindsight_relabel", (count,)),
            "future": streams.uniform("hindsight_future", (count,)),
        }

    def sample(self, indices: Int[Tensor, "S B"], draws: Draws) -> TransitionBatch:
        """The transitions at ``indices``, relabelled as the draws say."""
        return self.packed(indices, draws).unpack(self.store.layout)

    def packed(self, indices: Int[Tensor, "S B"], draws: Draws) -> PackedTransitions:
        """The same as rows."""
        found, layout = self.store.packed(indices), self.store.layout
        rows = found.rows.clone()
        relabel = draws["relabel"].to(indices.device) < self.share
        goals = self._future_goals(indices, draws["future"].to(indices.device))
        for vector in (rows[..., layout.vector], rows[..., layout.next_vector]):
            own = vector[..., self._desired]
            own.copy_(torch.where(relabel.unsqueeze(-1), goals, own))
        after = rows[..., layout.next_vector]
        reward, terminated = (rows[..., layout.column(n)] for n in ("reward", "terminated"))
        for seed in range(len(indices)):
            # One call a seed, so that what is computed does not depend on other seeds.
            self._reward_anew(reward[seed], terminated[seed], after[seed], relabel[seed])
        rows[..., layout.column("discount")] = self.store.discount * (1 - terminated)
        if layout.returns_to_go:
            # What the episode would have returned under the other goal is not worked out.
            rows[..., layout.column(RETURN_TO_GO)].masked_fill_(relabel, UNKNOWN)
        return replace(found, rows=rows)

    def _future_goals(
        self, indices: Int[Tensor, "S B"], draws: Float[Tensor, "S B"]
    ) -> Float[Tensor, "S B G"]:
        left = self.store.left(indices)
        # Rounding may bring a draw just below 1 to one step too many.
        steps = (draws * (left + 1)).long().minimum(left)
        return self.store.successor_vectors(self.store.later(indices, steps))[..., self._achieved]

    def _reward_anew(
        self,
        reward: Float[Tensor, " B"],
        terminated: Float[Tensor, " B"],
        after: Float[Tensor, "B O"],
        relabel: Bool[Tensor, " B"],
    ) -> None:
        """Write the rewards and ends of one seed's relabelled transitions."""
        if not relabel.any():
            return
        vectors = after[relabel].cpu().numpy()
        achieved, desired = vectors[:, self._achieved], vectors[:, self._desired]
        environment = self._environment
        assert isinstance(environment, ComputesReward)
        rewards = self._answers("compute_reward", environment.compute_reward, achieved, desired)
        reward[relabel] = torch.from_numpy(rewards).to(reward.device)
        if isinstance(environment, ComputesTermination):
            ends = self._answers(
                "compute_terminated", environment.compute_terminated, achieved, desired
            )
            terminated[relabel] = torch.from_numpy(ends).to(terminated.device)

    def _answers(
        self,
        name: str,
        compute: Callable[[Any, Any, Any], Any],
        achieved: Float[np.ndarray, "n G"],
        desired: Float[np.ndarray, "n G"],
    ) -> Float[np.ndarray, " n"]:
        """What the environment answers for each of n goals, in one call if it takes several."""
        count = len(achieved)
        try:
            found = np.asarray(compute(achieved, desired, [{}] * count))
        except ValueError:
            # Such as an ``if`` that asks whether an array is true.
            found = np.asarray(None)
        if found.shape != (count,):
            # It answers for one step only, such as by a norm over all numbers.
            each = zip(achieved, desired, strict=True)
            found = np.asarray([compute(a, d, {}) for a, d in each])
        if found.shape != (count,):
            raise UserError(
                f"{name} of {self._env_id} answers with the shape {found.shape[1:]} for one goal; "
                "one number was expected: mend the environment, or leave replay.relabel out"
            )
        return found.astype(np.float32)
