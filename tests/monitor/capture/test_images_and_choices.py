"""The monitor of policies that see images, and of policies that choose: what is kept of a step."""

import io

import h5py
import numpy as np
import pytest
import torch
from fakes import CHOICES, CHOOSING, PICTURED, told_by
from monitor.observed import SEEDS, Watched
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.transitions import Frames, TransitionData
from jsrl.monitor import Monitor, Recording
from jsrl.monitor.capture.layers import LayerCapture, layer_names
from jsrl.monitor.capture.recording_files import chunk_paths
from jsrl.monitor.capture.recording_writer import RecordingWriter
from jsrl.monitor.capture.samples import as_arrays
from jsrl.monitor.capture.steps import FIELDS, WatchedSteps, steps_of_dataset
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.encoders.drq import DrqOptions
from jsrl.networks.layers import SeedLinear
from jsrl.networks.policies import GaussianPolicy
from jsrl.networks.seed_policy import SeedPolicy, register_policy

PICTURE = (2, 4, 3)


def drawn(policy):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return policy


@register_policy("seeing, by tests")
class Seeing(SeedPolicy):
    """Five numbers of each picture, and then an action of them and the vector."""

    def __init__(self, num_seeds, observation_size, action_size, images):
        super().__init__(num_seeds, observation_size, action_size, images=images)
        ((_, shape),) = self.images.items()
        self.eye = SeedLinear((num_seeds,), int(np.prod(shape)), 5)
        self.glance = nn.Tanh()
        self.head = SeedLinear((num_seeds,), 5 + observation_size, action_size)

    def encode(self, obs):
        ((_, pixels),) = obs.images.items()
        seen = self.glance(self.eye(pixels.flatten(2).float() / 255))
        return torch.cat([seen, obs.vector], -1)

    def forward(self, features):
        return torch.tanh(self.head(features))

    def mode(self, obs):
        return self(self.encode(obs))

    @torch.inference_mode()
    def act(self, obs, streams):
        mode = self.mode(obs)
        if streams is None:
            return mode
        return (mode + streams.normal("action_noise", mode.shape[1:])).clamp(-1, 1)


def seeing(interval=1, phase=None):
    policy = drawn(Seeing(len(SEEDS), 2, 2, {"picture": PICTURE}))
    return Watched(phase, interval, env_id=PICTURED, policy=policy)


def through_a_file(state):
    """What comes back from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same_steps(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS) and all(
        np.array_equal(image, other.images[name]) for name, image in one.images.items()
    )


def test_pictures_and_what_the_layers_say_of_them_are_passed_on():
    watched = seeing(interval=3)
    watched.collector.observer = watched.observer
    taken = watched.collect(21)
    assert watched.observer.capture.layers == ["inputs", "eye", "glance", "head", "outputs"]
    for index in range(len(SEEDS)):
        alone = LayerCapture(watched.policy.select(index), ".*")
        for place, (steps, said) in enumerate(watched.moments(index)):
            assert np.array_equal(steps.images["picture"], taken["picture"][3 * place + 2, index])
            assert np.array_equal(steps.actions, taken["actions"][3 * place + 2, index])
            # The picture itself tells the time.
            told = told_by(torch.from_numpy(steps.images["picture"]))
            assert told[:, 1].tolist() == steps.time.tolist()
            expected = alone.observe(steps.observed[None])
            assert all(torch.equal(said[name], expected[name][0]) for name in expected)
            assert said["inputs"].shape == (len(steps), 5 + 2)


def test_pictures_are_watched_where_the_guide_acts_alone():
    watched = seeing(phase="evaluation")
    watched.collector.observer = watched.observer
    watched.collect(5, guide_steps=9)
    alone = LayerCapture(watched.policy.select(1), ".*")
    for steps, said in watched.moments(1):
        assert (steps.actions == 0.5).all()
        expected = alone.observe(steps.observed[None])
        assert all(torch.equal(said[name], expected[name][0]) for name in expected)


def test_an_observer_of_pictures_goes_on_from_a_checkpoint():
    whole, first, second = (seeing(interval=2) for _ in range(3))
    whole.collector.observer = whole.observer
    whole.collect(18)
    first.collector.observer = first.observer
    first.collect(10)
    assert first.steps[0] == []
    second.observer.load_state_dict(through_a_file(first.observer.state_dict()))
    first.collector.observer = second.observer
    first.collect(8)
    for index in range(len(SEEDS)):
        pairs = list(zip(whole.moments(index), second.moments(index), strict=True))
        assert len(pairs) == 9
        for (steps, said), (other_steps, other_said) in pairs:
            assert same_steps(steps, other_steps)
            assert all(torch.equal(said[name], other_said[name]) for name in said)


def test_a_waiting_step_of_a_checkpoint_of_the_version_before_is_passed_on():
    whole, first, second = (Watched(interval=2) for _ in range(3))
    for watched in (whole, first):
        watched.collector.observer = watched.observer
        watched.collect(10)
    state = through_a_file(first.observer.state_dict())
    for waiting in state["waiting"]:
        # The names that it had, and no images.
        waiting["moment"]["observations"] = waiting["moment"].pop("observation")
        del waiting["moment"]["images"]
    second.observer.load_state_dict(state)
    for (steps, _), (other, _) in zip(whole.moments(0), second.moments(0), strict=True):
        assert same_steps(steps, other)


def test_steps_with_pictures_are_cut_joined_and_stored_with_them():
    watched = seeing()
    watched.collector.observer = watched.observer
    watched.collect(12)
    watched.observer.flush()
    steps = WatchedSteps.concatenate(watched.steps[0])
    again = WatchedSteps.from_state_dict(through_a_file(steps.state_dict()))
    assert again.images["picture"].dtype == np.uint8
    assert same_steps(steps, again)
    joined = WatchedSteps.concatenate([steps.take(slice(0, 5)), steps.take(slice(5, None))])
    assert same_steps(steps, joined)
    for episode in steps.episodes():
        told = told_by(torch.from_numpy(episode.images["picture"]))
        assert told[:, 1].tolist() == episode.time.tolist()
        assert len(set(told[:, 0])) == 1


def test_a_recording_keeps_the_layers_and_no_picture(tmp_path):
    watched = seeing()
    watched.collector.observer = watched.observer
    watched.collect(12)
    watched.observer.flush()
    (steps,), (said,) = watched.steps[0], watched.said[0]
    writer = RecordingWriter(tmp_path, {name: values.shape[1] for name, values in said.items()})
    writer.add(steps, as_arrays(said))
    # Neither in memory, which checkpoints hold, nor in the file.
    assert set(writer.state_dict()["rows"]) == set(FIELDS)
    writer.complete()
    with h5py.File(chunk_paths(tmp_path)[0]) as file:
        assert set(file) == {*FIELDS, "layers"}
    recording = Recording(tmp_path)
    assert np.array_equal(recording.layer("glance").values, as_arrays(said)["glance"])
    found = recording.steps()
    assert dict(found.images) == {} and np.array_equal(found.observations, steps.observations)
    with pytest.raises(UserError, match="the policy sees images, and recordings hold none"):
        LayerCapture(watched.policy.select(0), ".*").observe(found.observed[None])


def test_layers_of_an_encoder_are_seen_and_those_of_no_encoder_have_no_name():
    plain = GaussianPolicy(2, 3, 2, (8,))
    assert layer_names(plain) == [
        *("inputs", "mlp.hidden_0", "mlp.activation_0", "mlp.output", "outputs")
    ]
    encoder = DrqOptions(kind="drq", channels=4, features=5)
    policy = drawn(GaussianPolicy(2, 3, 2, (8,), images={"eye": (3, 16, 18)}, encoder=encoder))
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (2, 4, 3, 16, 18), dtype=torch.uint8, generator=generator)
    seen = Observation(torch.randn(2, 4, 3, generator=generator), {"eye": image})
    # Convolutions are wide, and left out unless they are named.
    assert not any("convolutions" in name for name in LayerCapture(policy, ".*").layers)
    capture, acted = LayerCapture(policy, ".*(convolutions)?.*"), {}
    with capture.recorder(acted):
        policy.act(seen, None)
    found = capture.observe(seen)
    assert set(found) == set(acted) == set(layer_names(policy))
    assert all(torch.equal(found[name], acted[name]) for name in found)
    with torch.no_grad():
        features = policy.encode(seen)
    assert torch.equal(found["inputs"], features) and features.shape == (2, 4, 5 + 3)
    convolved = found["observation_encoder.encoders.eye.convolutions.activation_3"]
    assert convolved.shape[:3] == (2, 4, 4) and (convolved >= 0).all()


def test_choices_are_kept_as_numbers():
    policy = drawn(CategoricalPolicy(2, 3, CHOICES, (8,)))
    watched = Watched(interval=2, env_id=CHOOSING, policy=policy)
    watched.collector.observer = watched.observer
    taken = watched.collect(20, chooses=True)
    assert taken["actions"].dtype == np.int64
    for index in range(len(SEEDS)):
        for place, (steps, said) in enumerate(watched.moments(index)):
            assert steps.actions.dtype == np.float32
            chosen = taken["actions"][2 * place + 1, index]
            assert steps.actions.tolist() == [[float(choice)] for choice in chosen]
            assert said["outputs"].shape == (len(steps), CHOICES)
            torch.testing.assert_close(said["outputs"].exp().sum(-1), torch.ones(len(steps)))


def test_transitions_of_a_dataset_are_seen_with_their_pictures_and_choices():
    images = np.random.default_rng(0).integers(0, 256, (4, *PICTURE), np.uint8)
    three = np.arange(3)
    zeros = np.zeros((3, 2), np.float32)
    data = TransitionData(
        observations=zeros,
        actions=np.array([2, 0, 1]),
        rewards=np.zeros(3, np.float32),
        next_observations=zeros,
        terminals=np.zeros(3, bool),
        timeouts=np.zeros(3, bool),
        frames=Frames({"picture": images}, three, three + 1),
    )
    steps = steps_of_dataset(data, np.zeros(3, np.int64), np.zeros(3, np.int64), 7)
    assert np.array_equal(steps.images["picture"], images[:3])
    assert steps.actions.tolist() == [[2.0], [0.0], [1.0]]


def test_a_deployed_monitor_watches_a_policy_of_pictures(tmp_path):
    policy = drawn(Seeing(1, 2, 2, {"picture": PICTURE}))

    def wrap():
        return Monitor.wrap(policy, reference=4, level=0.5, horizon=10, permutations=100)

    monitor, generator = wrap(), torch.Generator().manual_seed(0)

    def look():
        pixels = torch.randint(0, 256, (1, 1, *PICTURE), dtype=torch.uint8, generator=generator)
        return Observation(torch.randn(1, 1, 2, generator=generator), {"picture": pixels})

    for _ in range(5):
        before = generator.get_state()
        for _ in range(12):
            seen = look()
            assert torch.equal(monitor.act(seen, None), policy.act(seen, None))
        checks = monitor.end_episode()
    assert monitor.status.faults == {}
    assert monitor.ready and {layer.layer for layer in checks[0].finding.layers} == {
        *("inputs", "eye", "glance", "head", "outputs")
    }
    monitor.save_reference(tmp_path)
    # Without images a network cannot be asked again: what its layers said then is compared.
    again = wrap()
    again.load_reference(tmp_path)
    assert again.ready
    generator.set_state(before)
    for _ in range(12):
        again.act(look(), None)
    (check,) = again.end_episode()
    assert set(check.finding.layers) == set(checks[0].finding.layers)
