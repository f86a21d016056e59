"""Conservative Q-learning, CQL(H) (Kumar et al. 2020, arXiv 2006.04779), on top of SAC."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import Draws, Metrics, Phase
from jsrl.core.ranges import at_least
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.losses import soft_maximum, squared_td_error
from jsrl.learners.options import LearnerInputs, learners
from jsrl.learners.sac import SAC, SACOptions

FIRST_LOG_MULTIPLIER = 1.0
LARGEST_MULTIPLIER = 1e6
"""Of the Lagrangian form, as in the implementation of Nakamoto et al. 2023."""


@dataclass
class CQLOptions(SACOptions):
    """Of ``learner=cql``: the options of SAC, and those of the conservative loss."""

    backup_entropy: bool = False
    # α, the weight of the conservative loss in pre-training.
    conservative_weight: float = 5.0
    # The weight in online learning; null: the same. With 0 the learner is SAC there.
    online_weight: float | None = None
    # Actions that are sampled each time: uniform, from the policy here, and in the next state.
    sampled_actions: int = 10
    # Whether sampled actions are weighed by their densities, so that they stand for an integral.
    importance_sampling: bool = True
    # Temperature of the soft maximum over actions.
    softmax_temperature: float = 1.0
    # The Lagrangian form: the weight is multiplied by a factor that grows while the gap, soft
    # maximum less the value of the data, is larger than this. null: no factor.
    target_gap: float | None = None
    # The gap is clipped from below; null: it is not.
    smallest_gap: float | None = None
    # The gap is clipped from above; null: it is not.
    largest_gap: float | None = None
    # Whether critics learn from the best of the actions that the policy samples in the next state.
    max_target_backup: bool = False
    # In so many updates at the beginning the actor clones the data instead of seeking values.
    cloning_updates: int = 0

    needs_dataset = True

    def check(self) -> None:
        super().check()
        at_least("learner.conservative_weight", self.conservative_weight, 0)
        at_least("learner.sampled_actions", self.sampled_actions, 1)
        at_least("learner.cloning_updates", self.cloning_updates, 0)
        if self.online_weight is not None:
            at_least("learner.online_weight", self.online_weight, 0)
        if not self.softmax_temperature > 0:
            raise UserError(
                f"learner.softmax_temperature={self.softmax_temperature} must be above 0"
            )
        low, high = self.smallest_gap, self.largest_gap
        if low is not None and high is not None and low > high:
            raise UserError(
                f"learner.smallest_gap={low} is above learner.largest_gap={high}; exchange them, "
                "or set one to null"
            )


@learners.register("cql", CQLOptions)
class CQL(SAC):
    """Conservative Q-learning for S seeds at once.

    To the critics' loss comes, for each critic, α times the mean gap between the soft maximum of
    its values over all actions and its value of the action in the data (equation 4 of the paper).

    Args:
        options: see ``CQLOptions``.
        inputs: what every learner gets.
    """

    def __init__(self, options: CQLOptions, inputs: LearnerInputs) -> None:
        if options.target_gap is not None:
            self.of_critic = ("critic", "multiplier")
        self._weight = options.conservative_weight
        self._clones = options.cloning_updates > 0
        self._actor_updates = 0
        super().__init__(options, inputs)

    def other_groups(self, seeds: int) -> dict[str, list[nn.Parameter]]:
        """The logarithm of each seed's factor, in the Lagrangian form."""
        start = torch.full((seeds, 1), FIRST_LOG_MULTIPLIER, device=self.device)
        self.log_multiplier = nn.Parameter(start)
        return {} if self.options.target_gap is None else {"multiplier": [self.log_multiplier]}

    def next_noise_shape(self) -> tuple[int, ...]:
        """Of one action in the next state, or of those among which is the best."""
        o = self.options
        several = (o.sampled_actions,) if o.max_target_backup else ()
        return (o.batch_size, *several, self.action_size)

    def other_draws(self, streams: Streams) -> Draws:
        """Uniform actions ``[S, B, n, A]``, and noise of the policy's here and in the next state.

        There are none where the conservative loss has no weight.
        """
        if self._weight == 0:
            return {}
        shape = (self.options.batch_size, self.options.sampled_actions, self.action_size)
        return {
            "uniform_actions": 2 * streams.uniform("uniform_actions", shape) - 1,
            "sampled_noise": streams.normal("sampled_noise", shape),
            "next_sampled_noise": streams.normal("next_sampled_noise", shape),
        }

    def start_phase(self, phase: Phase, updates: int) -> None:
        """Online learning, and the steps of the guide before it, may have a weight of their own."""
        super().start_phase(phase, updates)
        o = self.options
        own = phase is not Phase.OFFLINE and o.online_weight is not None
        self._weight = o.online_weight if own else o.conservative_weight

    def train(self, networks: Sequence[str], batch: TransitionBatch, draws: Draws) -> Metrics:
        """One step of the named networks; see ``SAC.train``."""
        metrics = super().train(networks, batch, draws)
        if self._clones and self._trains_actor and "actor" in networks:
            self._actor_updates += 1
            self._clones = self._actor_updates < self.options.cloning_updates
        return metrics

    def step_critics(
        self, batch: TransitionBatch, draws: Draws, temperature: Float[Tensor, "S 1"]
    ) -> Metrics:
        """Move the critics towards their target, and down where there are no data."""
        if self._weight == 0:
            return super().step_critics(batch, draws, temperature)
        networks = self.networks
        target = self.target(batch, temperature, draws)
        features = networks.read(networks.critic_encoder, batch.observation)
        q = networks.critic(torch.cat([features, batch.action], -1))[..., 0]
        gap, metrics = self._gap(batch, draws, features, q)
        conservative = self._weight * self._step_multiplier(gap, metrics).sum(-1)
        error = squared_td_error(q, target, "sum")
        self.optimiser.descend(error + conservative, "critic")
        return metrics | {
            "loss/critic": error,
            "loss/conservative": conservative,
            "value/q": q.detach().mean((1, 2)),
        }

    def bounded(
        self, values: Float[Tensor, "S K B n"], batch: TransitionBatch
    ) -> tuple[Float[Tensor, "S K B n"], Metrics]:
        """The values of the policy's actions as the soft maximum takes them: as they are."""
        return values, {}

    def next_value(
        self, batch: TransitionBatch, temperature: Float[Tensor, "S 1"], draws: Draws
    ) -> Float[Tensor, "S B"]:
        """With ``max_target_backup`` that of the best of several actions in the next state."""
        if not self.options.max_target_backup:
            return super().next_value(batch, temperature, draws)
        networks, noise = self.networks, draws["next_noise"]
        action, log_prob = networks.actor.sample_with_log_prob(
            networks.actor.encode(batch.next_observation), noise
        )
        features = networks.read(networks.target_encoder, batch.next_observation)
        each = features.unsqueeze(2).expand(-1, -1, noise.shape[2], -1)
        values = self.least_target_q(each.flatten(1, 2), action.flatten(1, 2), draws)
        best, place = values.view_as(log_prob).max(-1, keepdim=True)
        value, share, of_best = best[..., 0], None, log_prob.gather(-1, place)[..., 0]
        if not self.bootstrap.is_own:
            where = place.unsqueeze(-1).expand(-1, -1, -1, self.action_size)
            own = action.gather(2, where)[:, :, 0]
            chosen, share = self.bootstrap.choose(batch, own, draws)
            value = self.least_target_q(features, chosen, draws)
        return self.with_entropy(value, temperature, of_best, share)

    def actor_losses(
        self,
        batch: TransitionBatch,
        action: Float[Tensor, "S B A"],
        log_prob: Float[Tensor, "S B"],
        temperature: Float[Tensor, "S 1"],
    ) -> Metrics:
        """SAC's loss, or in the first ``cloning_updates`` the data's likelihood for the values."""
        metrics = super().actor_losses(batch, action, log_prob, temperature)
        if self._clones:
            actor = self.networks.actor
            of_data = actor.log_prob(actor.encode(batch.observation), batch.action)
            metrics["loss/actor"] = (temperature * log_prob - of_data).mean(-1)
        return metrics

    def start_from(self, state: dict[str, Any], rows: Sequence[int], *, only_actor: bool) -> None:
        """Copy the networks of another learner, and its factor if it has one.

        An actor that was trained before has cloned as long as it did there, and one of a kind that
        does not clone needs none of it.
        """
        super().start_from(state, rows, only_actor=only_actor)
        self._actor_updates = state.get("actor_updates", self.options.cloning_updates)
        self._clones = self._actor_updates < self.options.cloning_updates
        if not only_actor and "log_multiplier" in state:
            with torch.no_grad():
                self.log_multiplier.copy_(state["log_multiplier"][list(rows)])

    def state_dict(self) -> dict[str, Any]:
        """What SAC has, the factor, the weight in use, and how long the actor has cloned."""
        return super().state_dict() | {
            "log_multiplier": self.log_multiplier.detach().clone(),
            "conservative_weight": self._weight,
            "actor_updates": self._actor_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.log_multiplier.copy_(state["log_multiplier"])
        self._weight = state["conservative_weight"]
        self._actor_updates = state["actor_updates"]
        self._clones = self._actor_updates < self.options.cloning_updates

    def _gap(
        self,
        batch: TransitionBatch,
        draws: Draws,
        features: Float[Tensor, "S B F"],
        q: Float[Tensor, "S K B"],
    ) -> tuple[Float[Tensor, "S K"], Metrics]:
        """Mean of the soft maximum over actions less the value of the data, for each critic."""
        o = self.options
        sampled, log_density = self._sampled(batch, draws)
        values = self._values(features, torch.cat([draws["uniform_actions"], sampled], 2))
        uniform, own = values.split([o.sampled_actions, 2 * o.sampled_actions], -1)
        own, metrics = self.bounded(own, batch)
        if o.importance_sampling:
            # Uniform on [-1, 1]^A.
            uniform = uniform + self.action_size * math.log(2)
            among = [uniform, own - log_density.unsqueeze(1)]
        else:
            among = [uniform, own, q.unsqueeze(-1)]
        gap = soft_maximum(torch.cat(among, -1), o.softmax_temperature) - q
        if o.smallest_gap is not None or o.largest_gap is not None:
            gap = gap.clamp(o.smallest_gap, o.largest_gap)
        mean: Tensor = gap.mean(-1)
        return mean, metrics | {"conservative/gap": mean.detach().mean(-1)}

    @torch.no_grad()
    def _sampled(
        self, batch: TransitionBatch, draws: Draws
    ) -> tuple[Float[Tensor, "S B n A"], Float[Tensor, "S B n"]]:
        """Actions of the policy in this and in the next state, and their log densities."""
        actor = self.networks.actor
        here, next_ = (
            actor.sample_with_log_prob(actor.encode(observation), draws[noise])
            for observation, noise in (
                (batch.observation, "sampled_noise"),
                (batch.next_observation, "next_sampled_noise"),
            )
        )
        return torch.cat([here[0], next_[0]], 2), torch.cat([here[1], next_[1]], 2)

    def _values(
        self, features: Float[Tensor, "S B F"], actions: Float[Tensor, "S B n A"]
    ) -> Float[Tensor, "S K B n"]:
        """Q of several actions in each state."""
        each = features.unsqueeze(2).expand(-1, -1, actions.shape[2], -1)
        q: Tensor = self.networks.critic(torch.cat([each, actions], -1).flatten(1, 2))[..., 0]
        return q.unflatten(-1, actions.shape[1:3])

    def _step_multiplier(self, gap: Float[Tensor, "S K"], metrics: Metrics) -> Float[Tensor, "S K"]:
        """Each critic's conservative loss before α: the gap, or the factor times what is too much.

        In the Lagrangian form (appendix F of the paper) the factor moves one step upwards in the
        same loss, of which its own value here is still that from before.
        """
        if self.options.target_gap is None:
            return gap
        excess = gap - self.options.target_gap
        multiplier = self.log_multiplier.exp().clamp(max=LARGEST_MULTIPLIER)
        loss = -self._weight * multiplier[:, 0] * excess.detach().mean(-1)
        used = multiplier.detach().clone()
        self.optimiser.descend(loss, "multiplier")
        metrics |= {"loss/multiplier": loss, "conservative/multiplier": used[:, 0]}
        return used * excess
