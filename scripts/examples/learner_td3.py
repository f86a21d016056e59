"""A learner of one's own: TD3 (Fujimoto et al. 2018) for S seeds at once.

    jsrl train dataset=none guide=none curriculum=none learner=custom \\
        learner.target=scripts/examples/learner_td3.py:TD3 run_dir=runs/td3

What it learns is a policy of a class of its own, registered below, so that ``jsrl evaluate``,
``jsrl export``, ``jsrl monitor``, ``jsrl.load_policy`` and ``guide=run`` work with the run. Each of
them imports this file to make the policy again.

A learner is called with the keywords ``streams``, ``observation_size``, ``action_size``,
``batch_size`` and ``device``, and with those of ``learner.arguments``. One with a parameter
``observation`` is given the ``ObservationSpec`` of the environment as well (its images, and which
columns of the vector are what), and one with ``actions`` its bounds, or how many choices there are;
both are in ``jsrl.core.specs``. Before the run begins, its policy is asked for the mode at an
observation of zeros, and has to answer float32 ``[S, 1, A]`` in [-1, 1], or int64 ``[S, 1]``.
"""

import copy

import torch
from torch import Tensor, nn

from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, DataNeeds, Phase
from jsrl.core.transitions import TransitionBatch
from jsrl.networks.layers import INITIALISATIONS, SeedMLP
from jsrl.networks.seed_policy import SeedPolicy, register_policy


@register_policy("td3")
class DeterministicPolicy(SeedPolicy):
    """A network with a tanh at its end, which explores by Gaussian noise on its actions.

    It is given observations: their vectors are all it looks at, and images it does not know.
    """

    def __init__(self, num_seeds, observation_size, action_size, hidden=(256, 256), noise=0.2):
        # These arguments are what a checkpoint keeps beside the weights.
        super().__init__(num_seeds, observation_size, action_size, hidden=hidden, noise=noise)
        self.mlp = SeedMLP((num_seeds,), observation_size, hidden, action_size)
        self.noise = noise

    def forward(self, vector: Tensor) -> Tensor:
        return torch.tanh(self.mlp(vector))

    def mode(self, obs: Observation) -> Tensor:
        return self(obs.vector)

    @torch.no_grad()
    def act(self, obs: Observation, streams) -> Tensor:
        """Actions [S, E, A] for vectors [S, E, O]; without streams, those without noise."""
        if streams is None:
            return self.mode(obs)
        return self.sample(obs, streams, "action_noise")

    @torch.no_grad()
    def sample(self, obs: Observation, streams, name, where=None) -> Tensor:
        """Noisy actions: what a guide with guide.sample=true does."""
        actions = self.mode(obs)
        drawn = streams.normal(name, actions.shape[1:], where=where).to(actions.device)
        return (actions + self.noise * drawn).clamp(-1, 1)


class TD3:
    """Two critics, a smoothed target, and an actor that is updated every second time.

    Args:
        streams: of the S seeds, for the initial weights.
        observation_size: O.
        action_size: A.
        batch_size: B.
        device: where the networks are.
        hidden: sizes of the hidden layers of all networks.
        rate: learning rate.
        discount: of a step.
        target_rate: the share of the networks that the targets take over at each actor update.
    """

    def __init__(
        self,
        streams,
        observation_size,
        action_size,
        batch_size,
        device,
        hidden=(256, 256),
        rate=3e-4,
        discount=0.99,
        target_rate=0.005,
    ):
        self.noise_shape = (batch_size, action_size)
        self.target_rate, self.device = target_rate, device
        # One minibatch a step, of which every second one trains the actor too. Its ``discount`` is
        # that of a step, or 0 where the task ended the episode.
        self.needs = DataNeeds(Consumes.TRANSITIONS, (("critic", "actor"),), discount=discount)
        self.actor = DeterministicPolicy(len(streams), observation_size, action_size, hidden)
        self.critic = SeedMLP((len(streams), 2), observation_size + action_size, hidden, 1)
        scheme, initial = INITIALISATIONS["pytorch"], streams.child("initialisation")
        self.actor.mlp.initialise(scheme, initial, "actor")
        self.critic.initialise(scheme, initial, "critic")
        self.actor.to(device)
        self.critic.to(device)
        self.targets = copy.deepcopy(nn.ModuleList([self.actor, self.critic]))
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), rate)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), rate)
        self.updates = 0

    def draws(self, streams):
        return {"noise": streams.normal("target_noise", self.noise_shape).to(self.device)}

    def start_phase(self, phase: Phase, updates: int) -> None:
        """There is no schedule to restart."""

    def update(self, batch: TransitionBatch, draws):
        target_actor, target_critic = self.targets
        with torch.no_grad():
            noise = (0.2 * draws["noise"]).clamp(-0.5, 0.5)
            after = batch.next_observation.vector
            action = (target_actor(after) + noise).clamp(-1, 1)
            next_q = target_critic(torch.cat([after, action], -1)).amin(1)[..., 0]
            target = batch.reward + batch.discount * next_q
        q = self.critic(batch.vector_action())[..., 0]
        # A mean within a seed and a sum over seeds, so that no seed sees another.
        critic_loss = (q - target.unsqueeze(1)).square().mean(-1).sum(-1)
        self._descend(self.critic_adam, critic_loss)
        self.updates += 1
        if self.updates % 2 == 0:
            vector = batch.observation.vector
            pair = torch.cat([vector, self.actor(vector)], -1)
            self._descend(self.actor_adam, -self.critic(pair)[:, 0, :, 0].mean(-1))
            sources = nn.ModuleList([self.actor, self.critic])
            with torch.no_grad():
                for own, theirs in zip(
                    self.targets.parameters(), sources.parameters(), strict=True
                ):
                    own.lerp_(theirs, self.target_rate)
        return {"loss/critic": critic_loss.detach(), "value/q": q.detach().mean((1, 2))}

    def policy(self):
        return self.actor

    def state_dict(self):
        modules = nn.ModuleList([self.actor, self.critic, self.targets])
        adams = [self.actor_adam.state_dict(), self.critic_adam.state_dict()]
        return {"modules": modules.state_dict(), "adams": adams, "updates": self.updates}

    def load_state_dict(self, state):
        nn.ModuleList([self.actor, self.critic, self.targets]).load_state_dict(state["modules"])
        actor_adam, critic_adam = copy.deepcopy(state["adams"])
        self.actor_adam.load_state_dict(actor_adam)
        self.critic_adam.load_state_dict(critic_adam)
        self.updates = state["updates"]

    @staticmethod
    def _descend(adam, losses):
        adam.zero_grad()
        losses.sum().backward()
        adam.step()
