"""Learners that see images: seeds apart, shared convolutions, random shifts, what is refused."""

import numpy as np
import pytest
import torch
from minibatches import changed, random_batch, seen, small_encoder
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Phase
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.learners import LearnerInputs, learners
from jsrl.networks.encoders.encoder import EncoderOptions

CPU, B = torch.device("cpu"), 8
OBSERVATION = seen(vector(3), camera=(3, 16, 17), wrist=(1, 15, 15))
REAL, CHOICES = box((-1.0, -1.0), (1.0, 1.0)), DiscreteActions(4)
CASES = {
    "iql": ("iql", REAL, {"dropout": 0.1}),
    "iql value first": ("iql", REAL, {"value_first": False}),
    "bc": ("bc", REAL, {"dropout": 0.1}),
    "bc choices": ("bc", CHOICES, {}),
    "sac": ("sac", REAL, {"critics": 3, "target_critics": 2}),
    "td3": ("td3", REAL, {"policy_delay": 1}),
    "td3_bc": ("td3_bc", REAL, {"critics": 3}),
    "awac": ("awac", REAL, {"value_samples": 2, "dropout": 0.1}),
}
ACTOR_CRITICS = ["iql", "sac", "awac"]


def options_of(kind, encoder, **changes):
    settings = {"hidden": [12, 10], "batch_size": B, "learning_rate": 3e-3, **changes}
    return learners[kind].options(kind=kind, encoder=encoder, **settings)


def make(seeds, kind, actions, encoder, observation=OBSERVATION, **changes):
    inputs = LearnerInputs(Streams(seeds).child("learner"), observation, actions, CPU)
    return learners.build(options_of(kind, encoder, **changes), inputs)


def train(learner, streams, actions, updates):
    for _ in range(updates):
        minibatch = random_batch(streams, B, OBSERVATION, actions)
        learner.update(minibatch, learner.draws(streams))


def of_seeds(learner):
    """The parameters of everything that is trained, or follows, by name."""
    module = learner.networks if hasattr(learner, "networks") else learner.policy()
    return dict(module.named_parameters())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_a_seed_learns_bitwise_the_same_alone_and_in_company(case, shared):
    kind, actions, changes = CASES[case]
    found = []
    for seeds in ([7], [3, 7, 11]):
        learner = make(seeds, kind, actions, small_encoder(shared=shared), **changes)
        learner.start_phase(Phase.OFFLINE, 10)
        before = {name: value.clone() for name, value in of_seeds(learner).items()}
        train(learner, Streams(seeds).child("batches"), actions, 10)
        after = of_seeds(learner)
        assert all((after[name] != value).any() for name, value in before.items())
        found.append({name: value[seeds.index(7)] for name, value in after.items()})
    alone, together = found
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        assert torch.equal(value, together[name]), name


def convolutions(encoder):
    """The parameters of an encoder's convolutions, of both images."""
    return [
        parameter
        for name in OBSERVATION.image_shapes
        for parameter in encoder.encoder_of(name).convolutions.parameters()
    ]


def after_one_update(kind, phase, shared):
    """A learner after one update from a minibatch that is always the same."""
    learner = make([0, 1], kind, REAL, small_encoder(shared=shared))
    learner.start_phase(phase, 5)
    train(learner, Streams([0, 1]).child("batches"), REAL, 1)
    return learner


@pytest.mark.parametrize("kind", ACTOR_CRITICS)
def test_shared_convolutions_learn_from_the_critics_loss_alone(kind):
    fresh = make([0, 1], kind, REAL, small_encoder())
    whole, critics = (
        after_one_update(kind, phase, shared=True) for phase in (Phase.ONLINE, Phase.CRITIC_WARMUP)
    )
    for learner in (whole, critics):
        networks = learner.networks
        own = convolutions(networks.critic_encoder)
        for one, other in zip(own, convolutions(networks.actor.observation_encoder), strict=True):
            assert one is other
        for one, before in zip(own, convolutions(fresh.networks.critic_encoder), strict=True):
            assert not torch.equal(one, before)
    # What the actor's loss changes in the one is its own, and the convolutions stay to the bit.
    one, other = of_seeds(whole), of_seeds(critics)
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    trunks = {name for name in one if name.startswith("actor.") and ".trunk." in name}
    assert trunks <= differing
    assert {name.split(".")[0] for name in differing} <= {"actor", "log_temperature"}
    assert not any(".convolutions." in name for name in differing)


@pytest.mark.parametrize("kind", ACTOR_CRITICS)
def test_convolutions_apart_learn_each_from_its_own_loss(kind):
    whole, critics = (
        after_one_update(kind, phase, shared=False) for phase in (Phase.ONLINE, Phase.CRITIC_WARMUP)
    )
    for one, other in zip(
        convolutions(whole.networks.critic_encoder),
        convolutions(critics.networks.critic_encoder),
        strict=True,
    ):
        assert torch.equal(one, other)
    for one, other in zip(
        convolutions(whole.networks.actor.observation_encoder),
        convolutions(critics.networks.actor.observation_encoder),
        strict=True,
    ):
        assert one.shape == other.shape
        assert not torch.equal(one, other)


@pytest.mark.parametrize("shared", [True, False])
def test_the_losses_of_actor_and_value_reach_no_convolution_that_is_shared(shared):
    networks = make([0], "iql", REAL, small_encoder(shared=shared)).networks
    minibatch = random_batch(Streams([0]), B, OBSERVATION, REAL)
    actor = networks.actor
    features = actor.encode(minibatch.observation)
    for loss, encoder in (
        (actor.log_prob(features, minibatch.action), actor.observation_encoder),
        (networks.v(minibatch.observation), networks.value_encoder),
    ):
        found = torch.autograd.grad(loss.sum(), convolutions(encoder), allow_unused=True)
        assert [gradient is None for gradient in found] == [shared] * len(found)


def shifted_by_hand(images, shifts, pixels):
    """Padded by the edges, and a window cut out, image by image."""
    out = np.empty_like(images)
    for place in np.ndindex(images.shape[:2]):
        sides = ((0, 0), (pixels, pixels), (pixels, pixels))
        padded = np.pad(images[place], sides, mode="edge")
        row, column = shifts[place]
        height, width = images.shape[-2:]
        out[place] = padded[:, row : row + height, column : column + width]
    return out


@pytest.mark.parametrize("case", CASES)
def test_images_are_shifted_by_draws_with_names_before_and_after_alike(case):
    kind, actions, changes = CASES[case]
    learner, unshifted = (
        make([0, 5], kind, actions, small_encoder(shift=shift), **changes) for shift in (2, 0)
    )
    drawn, names = Streams([0, 5]), Streams([0, 5])
    draws = learner.draws(drawn)
    shifts = {name: draw for name, draw in draws.items() if "shift" in name}
    assert shifts.keys() == {
        f"{when}.{image}" for when in ("shift", "next_shift") for image in ("camera", "wrist")
    }
    for name, shift in shifts.items():
        assert torch.equal(shift, names.integers(name.replace(".", "_"), 5, (B, 2)))
        assert (shift != shift[:, :1]).any()
    assert not any("shift" in name for name in unshifted.draws(Streams([0, 5])))
    minibatch = random_batch(Streams([0, 5]).child("batches"), B, OBSERVATION, actions)

    def shifted(observation, when):
        images = {
            name: torch.from_numpy(
                shifted_by_hand(image.numpy(), shifts[f"{when}.{name}"].numpy(), 2)
            )
            for name, image in observation.images.items()
        }
        return Observation(observation.vector, images)

    learner.update(minibatch, draws)
    moved = {
        "observation": shifted(minibatch.observation, "shift"),
        "next_observation": shifted(minibatch.next_observation, "next_shift"),
    }
    unshifted.update(changed(minibatch, **moved), draws)
    for name, value in of_seeds(unshifted).items():
        assert torch.equal(value, of_seeds(learner)[name]), name


def test_what_an_image_shows_is_cloned():
    """One of two choices is right: the left half of the image is bright, or the right one."""
    spec, choices = seen(vector(0), camera=(1, 16, 16)), DiscreteActions(2)
    learner = make([0, 1], "bc", choices, small_encoder(shift=0), spec, learning_rate=1e-2)

    def halves(streams):
        minibatch = random_batch(streams, B, spec, choices)
        image = minibatch.observation.images["camera"] // 2
        left = (minibatch.action == 0)[..., None, None, None]
        bright = torch.arange(16).expand(16, 16) < 8
        image = image + torch.where(bright == left, 120, 0).byte()
        return changed(
            minibatch, observation=Observation(minibatch.observation.vector, {"camera": image})
        )

    streams = Streams([0, 1])
    for _ in range(60):
        learner.update(halves(streams), learner.draws(streams))
    minibatch = halves(Streams([8, 9]))
    assert torch.equal(learner.policy().act(minibatch.observation, None), minibatch.action)


@pytest.mark.parametrize("kind", ["iql", "sac", "td3", "awac", "bc"])
@pytest.mark.parametrize(
    ("encoder", "observation", "words"),
    [
        (
            EncoderOptions(),
            OBSERVATION,
            "the images 'camera' 3×16×17, 'wrist' 1×15×15, and learner",
        ),
        (small_encoder(), vector(3), "learner.encoder=drq is for images, and this environment has"),
        (
            small_encoder(),
            seen(vector(3), camera=(3, 14, 16)),
            "image 'camera': learner.encoder=drq",
        ),
        (
            small_encoder(one_for_all_images=True),
            OBSERVATION,
            "learner.encoder.one_for_all_images=true needs images of one shape",
        ),
    ],
)
def test_an_encoder_that_does_not_fit_the_environment_is_refused_in_one_line(
    kind, encoder, observation, words
):
    spec = EnvSpec("Fake-v0", observation, REAL, 50)
    options = options_of(kind, encoder)
    options.check()
    for refuse in (
        lambda: options.check_environment(spec),
        lambda: make([0], kind, REAL, encoder, observation),
    ):
        with pytest.raises(UserError) as caught:
            refuse()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ACTOR_CRITICS)
def test_a_learner_of_real_actions_refuses_choices_and_names_who_takes_them(kind):
    spec = EnvSpec("Fake-v0", vector(3), CHOICES, 50)
    with pytest.raises(
        UserError, match=rf"choice among 4, which learner={kind} cannot.*learner=bc"
    ):
        options_of(kind, EncoderOptions()).check_environment(spec)
    options_of("bc", EncoderOptions()).check_environment(spec)


def test_a_saved_learner_with_images_continues_bitwise():
    for kind in ("iql", "sac", "td3", "awac", "bc"):
        learner, streams = make([0, 1], kind, REAL, small_encoder()), Streams([0, 1])
        train(learner, streams, REAL, 3)
        restored = make([5, 6], kind, REAL, small_encoder())
        restored.load_state_dict(learner.state_dict())
        again = Streams([0, 1])
        again.load_state_dict(streams.state_dict())
        train(learner, streams, REAL, 3)
        train(restored, again, REAL, 3)
        for name, value in of_seeds(learner).items():
            assert torch.equal(value, of_seeds(restored)[name]), (kind, name)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", ACTOR_CRITICS)
def test_a_warm_start_copies_encoders_and_leaves_the_convolutions_shared(kind, shared):
    guide = make([7, 8], kind, REAL, small_encoder(shared=shared))
    train(guide, Streams([7, 8]), REAL, 2)
    learner = make([8], kind, REAL, small_encoder(shared=shared))
    learner.start_from(guide.state_dict(), [1], only_actor=False)
    for name, value in of_seeds(guide).items():
        assert torch.equal(of_seeds(learner)[name], value[1:]), name
    networks = learner.networks
    pairs = zip(
        convolutions(networks.critic_encoder),
        convolutions(networks.actor.observation_encoder),
        strict=True,
    )
    assert {one is other for one, other in pairs} == {shared}


@pytest.mark.parametrize("kind", ACTOR_CRITICS)
def test_a_naive_start_brings_shared_convolutions_and_the_targets_follow(kind):
    guide = make([7], kind, REAL, small_encoder(shared=True))
    train(guide, Streams([7]), REAL, 2)
    learner = make([8], kind, REAL, small_encoder(shared=True))
    before = {name: value.clone() for name, value in learner.networks.critic.state_dict().items()}
    learner.start_from(guide.state_dict(), [0], only_actor=True)
    networks = learner.networks
    theirs = guide.networks.actor.state_dict()
    assert all(torch.equal(v, theirs[n]) for n, v in networks.actor.state_dict().items())
    target = networks.target_encoder.state_dict()
    assert all(torch.equal(v, target[n]) for n, v in networks.critic_encoder.state_dict().items())
    assert all(torch.equal(v, before[n]) for n, v in networks.critic.state_dict().items())
