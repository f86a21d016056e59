"""A learner of the user's own, by module:attribute, in the package's online loop."""

from pathlib import Path

import fakes
import pytest
import torch

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Consumes, DataNeeds
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.jumpstart.curricula import ConstantCurriculum
from jsrl.learners.custom import CustomOptions
from jsrl.rollout.collector import Collector
from jsrl.rollout.online import OnlineRunner
from jsrl.rollout.replay import Replay
from jsrl.rollout.transition_store import TransitionStore
from jsrl.run.build import build_learner
from jsrl.settings.schema import ActivationConfig

CPU = torch.device("cpu")
TD3_FILE = str(Path(__file__).parents[2] / "scripts/examples/learner_td3.py")
FAST = {"hidden": [32, 32], "rate": 3e-3, "discount": 0.9, "target_rate": 0.02}
PENDULUM = EnvSettings("Pendulum-v1", max_episode_steps=50)
COUNTING = EnvSettings(fakes.COUNTING, {"lengths": (3,)})


def build(spec, seeds, **changes):
    config = CustomOptions(
        kind="custom",
        **{"target": f"{TD3_FILE}:TD3", "batch_size": 32, "arguments": FAST} | changes,
    )
    streams = Streams(seeds).child("exploration")
    return build_learner(config, ActivationConfig(), streams, spec, None, CPU)


class Loop:
    """An online run of a custom learner on ``settings``, without a guide."""

    def __init__(self, settings, seeds):
        spec, streams = describe_env(settings), Streams(seeds)
        self.learner = build(spec, seeds)
        environments = Environments(settings, len(seeds))
        collector = Collector(environments, spec, 1, streams.child("collector"), CPU)
        buffer = TransitionStore(
            spec.observation,
            spec.actions,
            num_seeds=len(seeds),
            num_envs=1,
            capacity=1000,
            discount=self.learner.needs.discount,
            device=CPU,
        )
        replay = Replay(None, buffer, 32, None, CPU)
        self.runner = OnlineRunner(
            *(collector, buffer, replay, self.learner),
            *(streams.child("online"), streams.child("learner"), 1, 1.0, 32),
        )
        self.curricula = [ConstantCurriculum() for _ in seeds]

    def run(self, steps):
        for _ in range(steps):
            metrics, _, _ = self.runner.step(None, self.curricula)
        return metrics


def test_a_td3_of_ones_own_learns_online_for_two_seeds_on_pendulum():
    loop = Loop(PENDULUM, [0, 1])
    before = [p.clone() for p in loop.learner.actor.parameters()]
    metrics = loop.run(200)
    assert loop.runner.updates == 200 - 32
    assert all(value.shape == (2,) and value.isfinite().all() for value in metrics.values())
    for parameter, was in zip(loop.learner.actor.parameters(), before, strict=True):
        for index in range(2):
            assert not torch.equal(parameter[index], was[index])
    loop.runner.collector.close()


def test_it_finds_the_action_that_is_rewarded():
    # Each step pays its action's first component: the best action there is 1.
    loop = Loop(COUNTING, [0, 1])
    states = Observation(torch.tensor([[0.0, 0.0, 0.0], [0.5, 1.0, 0.5]]).expand(2, -1, -1))
    before = loop.learner.policy().act(states, None)[..., 0].mean(1)
    loop.run(300)
    after = loop.learner.policy().act(states, None)[..., 0].mean(1)
    assert (before < 0.5).all()
    assert (after > 0.9).all()


def test_a_restored_run_of_a_custom_learner_continues_bitwise():
    loop, other = Loop(PENDULUM, [3]), Loop(PENDULUM, [3])
    loop.run(70)
    other.learner.load_state_dict(loop.learner.state_dict())
    assert other.runner.load_state_dict(loop.runner.state_dict(), None) == []
    loop.run(30)
    other.run(30)
    for one, two in zip(
        loop.learner.actor.parameters(), other.learner.actor.parameters(), strict=True
    ):
        assert torch.equal(one, two)


def test_seeds_of_a_custom_learner_are_initialised_alone_as_in_company():
    spec = describe_env(PENDULUM)
    together, alone = build(spec, [0, 1, 2]), build(spec, [2])
    for name, value in alone.state_dict()["modules"].items():
        assert torch.equal(together.state_dict()["modules"][name][2:], value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": None}, "learner.target is not set"),
        ({"target": f"{TD3_FILE}:TD4"}, "nearest: TD3"),
        ({"arguments": {"hiden": [8]}}, "learner.arguments"),
        ({"target": f"{__file__}:OnPolicy", "arguments": {}}, "whole rollouts"),
        ({"target": f"{__file__}:Silent", "arguments": {}}, "Silent' has no attribute needs"),
    ],
)
def test_what_is_wrong_with_a_custom_learner_is_named(changes, words):
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        build(describe_env(PENDULUM), [0], **changes)


def test_one_that_takes_n_step_transitions_is_made_for_any_environment():
    for settings in (PENDULUM, EnvSettings(fakes.PICTURED), EnvSettings(fakes.CHOOSING)):
        spec = describe_env(settings)
        options = CustomOptions(kind="custom", target=f"{__file__}:NStep")
        options.check_environment(spec)
        learner = build(spec, [0], target=options.target, arguments={})
        assert learner.sizes == (spec.observation.size, spec.actions.size, 32)


class NStep:
    """Takes returns of five steps."""

    needs = DataNeeds(Consumes.N_STEP, (("critic",), ("critic", "actor")), n_step=5)

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        self.sizes = (observation_size, action_size, batch_size)


class OnPolicy:
    """Asks for what the runner does not feed."""

    needs = DataNeeds(Consumes.ROLLOUTS, (("actor",),))

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        pass


class Silent:
    """Does not say what its updates take."""

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        pass
