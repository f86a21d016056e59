"""TD3's update against that of Stable-Baselines3: equal weights and minibatches stay equal."""

from collections.abc import Iterator

import stable_baselines3
import torch
from minibatches import random_batch
from specs import box, vector
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from jsrl.core.protocols import Phase
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionBatch
from jsrl.learners.options import LearnerInputs
from jsrl.learners.td3 import TD3, TD3Options

B, UPDATES = 64, 200
OBSERVATION, ACTIONS = vector(3), box((-2.0,), (2.0,))
# Both libraries draw the noise of the target's action from generators of their own.
OPTIONS = TD3Options(
    hidden=[32, 24], batch_size=B, learning_rate=1e-3, discount=0.98, target_noise=0.0
)


class GivenMinibatch:
    """Stands where Stable-Baselines3 has its replay buffer."""

    batch: TransitionBatch

    def sample(self, batch_size: int, env: None) -> ReplayBufferSamples:
        """The minibatch that jsrl's learner gets."""
        b = self.batch
        o, o2, a = b.observation.vector[0], b.next_observation.vector[0], b.action[0]
        return ReplayBufferSamples(o, a, o2, b.terminated[0, :, None], b.reward[0, :, None], None)


def their_model() -> stable_baselines3.TD3:
    model = stable_baselines3.TD3(
        "MlpPolicy",
        "Pendulum-v1",
        learning_rate=1e-3,
        gamma=0.98,
        policy_delay=2,
        target_policy_noise=0.0,
        policy_kwargs={"net_arch": [32, 24]},
        device="cpu",
        seed=0,
    )
    model.set_logger(configure(None, []))
    return model


def pairs(ours: TD3, theirs: stable_baselines3.TD3) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every parameter of ours, targets included, with the one of theirs in the same shape."""
    other = dict(theirs.policy.named_parameters())
    layers = {"hidden_0": 0, "hidden_1": 2, "output": 4}
    nets = {"actor": "actor", "target_actor": "actor_target"}
    for name, parameter in ours.networks.named_parameters():
        net, *_, layer, kind = name.split(".")
        for k in range(2 if "critic" in net else 1):
            critic = f"critic{'_target' if 'target' in net else ''}.qf{k}"
            place = f"{nets[net]}.mu" if net in nets else critic
            found = other[f"{place}.{layers[layer]}.{kind}"]
            own = parameter[0, k] if "critic" in net else parameter[0]
            yield name, own, found.T if kind == "weight" else found[None]


def test_200_updates_leave_the_weights_of_both_libraries_equal() -> None:
    inputs = LearnerInputs(Streams([0]).child("td3"), OBSERVATION, ACTIONS, torch.device("cpu"))
    ours, theirs = TD3(OPTIONS, inputs), their_model()
    ours.start_phase(Phase.ONLINE, UPDATES)
    with torch.no_grad():
        for _, own, their in pairs(ours, theirs):
            own.copy_(their)
    before = {name: own.clone() for name, own, _ in pairs(ours, theirs)}
    theirs.replay_buffer = minibatch = GivenMinibatch()
    streams = Streams([0]).child("batches")
    for _ in range(UPDATES):
        minibatch.batch = random_batch(streams, B, OBSERVATION, ACTIONS, 0.98)
        theirs.train(1, B)
        ours.update(minibatch.batch, ours.draws(streams))
    for name, own, their in pairs(ours, theirs):
        torch.testing.assert_close(own, their, rtol=0, atol=1e-5, msg=name)
        assert (own - before[name]).abs().max() > 1e-3, name
