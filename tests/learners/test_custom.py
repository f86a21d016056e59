"""A learner of the user's own, by module:attribute, in the package's online loop."""

import re
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
        (
            {"target": f"{__file__}:Silent", "arguments": {}},
            "Silent' has no DataNeeds as its attribute needs",
        ),
        (
            {"target": f"{__file__}:Mute", "arguments": {}},
            "gives int, which has no act(obs, streams)",
        ),
    ],
)
def test_what_is_wrong_with_a_custom_learner_is_named(changes, words):
    with pytest.raises(UserError, match=re.escape(words)):
        build(describe_env(PENDULUM), [0], **changes)


def test_one_that_takes_n_step_transitions_is_made_for_any_environment():
    for settings in (PENDULUM, EnvSettings(fakes.PICTURED), EnvSettings(fakes.CHOOSING)):
        spec = describe_env(settings)
        options = CustomOptions(kind="custom", target=f"{__file__}:NStep")
        options.check_environment(spec)
        learner = build(spec, [0], target=options.target, arguments={})
        assert learner.sizes == (spec.observation.size, spec.actions.size, 32)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (torch.zeros(2, 1, 1).tolist(), "answered a list to"),
        (torch.zeros(2, 1), "answered float32 [2, 1] to"),
        (torch.zeros(2, 1, 1).double(), "answered float64 [2, 1, 1] to"),
        (torch.tensor([[[0.5]], [[2.0]]]), "answered 2 to"),
        (torch.tensor([[[0.5]], [[-1.001]]]), "answered -1.001 to"),
        (torch.tensor([[[torch.nan]], [[0.0]]]), "answered nan to"),
    ],
)
def test_an_action_that_is_none_is_told_before_the_run(answers, words):
    options = {"target": f"{__file__}:Answering", "arguments": {"answers": answers}}
    with pytest.raises(UserError) as caught:
        build(describe_env(PENDULUM), [0, 1], **options)
    told = str(caught.value)
    assert words in told and "expected float32 [2, 1, 1] from -1 to 1" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (torch.tensor([[0], [fakes.CHOICES]]), f"answered {fakes.CHOICES} to"),
        (torch.zeros(2, 1), "answered float32 [2, 1] to"),
    ],
)
def test_a_choice_that_is_none_is_told_before_the_run(answers, words):
    options = {"target": f"{__file__}:Answering", "arguments": {"answers": answers}}
    spec = describe_env(EnvSettings(fakes.CHOOSING))
    with pytest.raises(UserError) as caught:
        build(spec, [0, 1], **options)
    told = str(caught.value)
    assert words in told and f"expected int64 [2, 1] from 0 to {fakes.CHOICES - 1}" in told


def test_a_trial_leaves_all_generators_as_they_were():
    state = torch.get_rng_state()
    learner = build(describe_env(PENDULUM), [0, 1], target=f"{__file__}:Drawing", arguments={})
    assert learner.asked == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert learner.streams.state_dict() == [{}, {}]


def test_the_spaces_are_given_to_whom_takes_them():
    spec = describe_env(EnvSettings(fakes.PICTURED))
    learner = build(spec, [0], target=f"{__file__}:Seeing", arguments={})
    assert learner.spaces == (spec.observation, spec.actions)
    both = build(spec, [0], target=f"{__file__}:SeeingBoth", arguments={})
    assert both.spaces == (spec.observation, spec.observation.size, spec.actions.size)


class Answering:
    """Its policy answers what it is told to."""

    needs = DataNeeds(Consumes.TRANSITIONS, (("actor",),))

    def __init__(self, streams, observation_size, action_size, batch_size, device, answers):
        self.answers = answers

    def policy(self):
        return self

    def act(self, obs, streams):
        assert streams is None
        return self.answers


class Drawing(Answering):
    """Its policy draws from PyTorch's own generator, whatever it is told."""

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        self.shape, self.streams, self.asked = (len(streams), 1, action_size), streams, 0

    def act(self, obs, streams):
        self.asked += 1
        assert obs.vector.shape == (2, 1, 3) and not obs.vector.any()
        return torch.rand(self.shape)


class Seeing(Answering):
    """Takes the spaces themselves."""

    def __init__(self, streams, observation, actions, batch_size, device):
        super().__init__(streams, 0, 0, 0, device, torch.zeros(1, 1, actions.size))
        self.spaces = (observation, actions)


class SeeingBoth(Answering):
    """Takes the one space and the sizes."""

    def __init__(self, streams, observation, observation_size, action_size, batch_size, device):
        super().__init__(streams, 0, 0, 0, device, torch.zeros(1, 1, action_size))
        self.spaces = (observation, observation_size, action_size)


class Mute:
    """Has no policy that acts."""

    needs = DataNeeds(Consumes.TRANSITIONS, (("actor",),))

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        pass

    def policy(self):
        return 0


class NStep:
    """Takes returns of five steps."""

    needs = DataNeeds(Consumes.N_STEP, (("critic",), ("critic", "actor")), n_step=5)

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        self.sizes = (observation_size, action_size, batch_size)
        self.device = device

    def policy(self):
        return self

    def act(self, obs, streams):
        chooses = self.sizes[1] == fakes.CHOICES
        shape = obs.leading if chooses else (*obs.leading, self.sizes[1])
        return torch.zeros(shape, dtype=torch.int64 if chooses else torch.float32)


class OnPolicy:
    """Asks for what the runner does not feed."""

    needs = DataNeeds(Consumes.ROLLOUTS, (("actor",),))

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        pass


class Silent:
    """Does not say what its updates take."""

    def __init__(self, streams, observation_size, action_size, batch_size, device):
        pass
