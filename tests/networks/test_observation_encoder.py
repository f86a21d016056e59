"""From vector and images to features: joined, shared or apart, refused, exported."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.networks.encoders import encoders
from jsrl.networks.encoders.encoder import NONE
from jsrl.networks.encoders.observation import (
    ObservationEncoder,
    actor_critic_encoders,
    check_encoder,
)

TWO = {"front": (3, 20, 22), "wrist.left": (1, 16, 16)}
SAME = {"left": (3, 18, 18), "right": (3, 18, 18)}


def options(kind="drq", **changed):
    return encoders[kind].options(kind=kind, **{"features": 6, **changed})


def observation(images, vector_size=3, seeds=2, batch=4):
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(seeds, batch, vector_size, generator=generator)
    return vector, {
        name: torch.randint(0, 256, (seeds, batch, *shape), dtype=torch.uint8, generator=generator)
        for name, shape in images.items()
    }


def initialised(encoder, seeds=(0, 1), name="critic"):
    encoder.initialise(Streams(seeds), name)
    return encoder


@pytest.mark.parametrize("vector_size", [0, 3])
def test_features_of_each_image_come_in_order_and_then_the_vector(vector_size):
    made = initialised(ObservationEncoder(options(), 2, vector_size, TWO))
    vector, images = observation(TWO, vector_size)
    # The order of the given dictionary is not what counts.
    out = made(vector, dict(reversed(images.items())))
    assert made.size == 12 + vector_size
    assert out.shape == (2, 4, made.size)
    for place, name in enumerate(TWO):
        features = made.encoder_of(name)(images[name])
        assert torch.equal(out[..., 6 * place : 6 * place + 6], features)
    assert torch.equal(out[..., 12:], vector)
    assert made.encoder_of("front") is not made.encoder_of("wrist.left")


def test_one_encoder_may_read_all_images():
    made = initialised(ObservationEncoder(options(one_for_all_images=True), 2, 0, SAME))
    vector, images = observation(SAME, 0)
    assert made.encoder_of("left") is made.encoder_of("right")
    assert len(list(made.parameters())) == len(list(made.encoder_of("left").parameters()))
    images["right"] = images["left"]
    out = made(vector, images)
    assert torch.equal(out[..., :6], out[..., 6:])


def test_without_images_the_vector_is_passed_on():
    made = ObservationEncoder(None, 2, 3, {})
    vector, _ = observation({})
    assert made.size == 3
    assert made(vector, {}) is vector


def test_observations_are_encoded_bitwise_the_same_alone_and_in_company():
    together = initialised(ObservationEncoder(options(), 2, 3, TWO))
    alone = initialised(ObservationEncoder(options(), 1, 3, TWO), [1])
    vector, images = observation(TWO)
    out = together(vector, images)
    own = alone(vector[1:], {name: image[1:].clone() for name, image in images.items()})
    assert torch.equal(out[1:], own)


def gradients(encoder):
    return {name for name, p in encoder.named_parameters() if p.grad is not None}


def test_a_shared_encoder_learns_from_the_critic_alone_and_each_has_its_trunk():
    actor, critic = actor_critic_encoders(options(), 2, 3, TWO)
    initialised(critic)
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    initialised(actor, name="actor")
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    vector, images = observation(TWO)
    trunk = critic.encoder_of("front").trunk.linear.weight
    assert not torch.equal(actor.encoder_of("front").trunk.linear.weight, trunk)
    assert actor.encoder_of("front").convolutions is critic.encoder_of("front").convolutions

    actor(vector, images).square().sum().backward()
    assert gradients(critic) == set()
    assert {name.split(".")[2] for name in gradients(actor)} == {"trunk"}
    trained = {id(p) for p in actor.trained_parameters()}
    assert trained == {id(p) for p in actor.parameters() if p.grad is not None}
    critic(vector, images).square().sum().backward()
    assert gradients(critic) == {name for name, _ in critic.named_parameters()}
    assert len(critic.trained_parameters()) == len(list(critic.parameters()))

    # A step of the critic changes what the actor sees.
    seen = actor(vector, images)
    torch.optim.SGD(critic.trained_parameters(), lr=0.1).step()
    assert not torch.equal(actor(vector, images), seen)


def test_the_features_of_the_actor_are_those_of_an_encoder_of_its_own():
    actor, critic = actor_critic_encoders(options(), 2, 3, TWO)
    initialised(critic)
    initialised(actor, name="actor")
    own = ObservationEncoder(options(), 2, 3, TWO)
    own.load_state_dict(actor.state_dict())
    vector, images = observation(TWO)
    assert torch.equal(own(vector, images), actor(vector, images))


def test_encoders_apart_have_nothing_in_common():
    actor, critic = actor_critic_encoders(options(shared=False), 2, 3, TWO)
    initialised(critic)
    initialised(actor, name="actor")
    vector, images = observation(TWO)
    actor(vector, images).square().sum().backward()
    assert gradients(actor) == {name for name, _ in actor.named_parameters()}
    assert gradients(critic) == set()
    assert not {id(p) for p in actor.parameters()} & {id(p) for p in critic.parameters()}


def test_a_trunk_that_reads_several_images_is_trained_once():
    actor, _ = actor_critic_encoders(options(one_for_all_images=True), 2, 3, SAME)
    assert len(actor.trained_parameters()) == len(list(actor.encoder_of("left").trunk.parameters()))


@pytest.mark.parametrize(
    ("chosen", "images", "message"),
    [
        (options(), {}, "learner.encoder=drq is for images, and this environment has none"),
        (None, {"front": (3, 64, 64)}, "the image 'front' 3×64×64, and learner.encoder is not set"),
        (None, TWO, "the images 'front' 3×20×22, 'wrist.left' 1×16×16, and learner.encoder"),
        (
            options("nature"),
            {"front": (3, 84, 84), "wrist": (3, 20, 84)},
            "image 'wrist': learner.encoder=nature needs images of at least 1×36×36",
        ),
        (options(one_for_all_images=True), TWO, "needs images of one shape"),
        (options(features=0), TWO, "learner.encoder.features=0 must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(chosen, images, message):
    with pytest.raises(UserError) as refused:
        check_encoder(chosen, images)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError):
        ObservationEncoder(chosen, 1, 3, images)


def test_what_fits_is_not_refused():
    check_encoder(None, {})
    check_encoder(options(), TWO)
    check_encoder(options(one_for_all_images=True), SAME)


def test_images_of_other_names_or_shapes_are_refused():
    made = ObservationEncoder(options(), 2, 3, TWO)
    vector, images = observation(TWO)
    with pytest.raises(
        UserError, match=r"has the images \['front'\], but the encoder was made for"
    ):
        made(vector, {"front": images["front"]})
    images["front"] = images["front"][:, :, :2]
    with pytest.raises(UserError, match="2×20×22, but the encoder drq was made for 3×20×22"):
        made(vector, images)


class OneSeed(nn.Module):
    """Rows without the axis of seeds."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, vector, front, wrist):
        images = {"front": front.unsqueeze(0), "wrist": wrist.unsqueeze(0)}
        return self.encoder(vector.unsqueeze(0), images).squeeze(0)


# What the exporter says of PyTorch's own functions is nothing that this package can change.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind for kind in encoders.names() if kind != NONE])
def test_an_encoder_of_one_seed_is_exported_with_uint8_input(kind, tmp_path):
    shapes = {"front": (3, 36, 40), "wrist": (1, 37, 37)}
    made = initialised(ObservationEncoder(options(kind), 1, 3, shapes), [4]).requires_grad_(False)
    vector, images = observation(shapes, 3, 1, 6)
    rows = (vector[0], images["front"][0], images["wrist"][0])
    names = ["vector", "front", "wrist"]
    dynamic = tuple({0: torch.export.Dim("batch")} for _ in names)
    torch.onnx.export(
        OneSeed(made).eval(),
        rows,
        str(tmp_path / "encoder.onnx"),
        dynamo=True,
        input_names=names,
        output_names=["features"],
        dynamic_shapes=dynamic,
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx"))
    assert [i.type for i in session.get_inputs()] == ["tensor(float)", *["tensor(uint8)"] * 2]
    expected = made(vector, images)[0].numpy()
    for count in (1, 2, 6):
        given = {name: row[:count].numpy() for name, row in zip(names, rows, strict=True)}
        (found,) = session.run(None, given)
        np.testing.assert_allclose(found, expected[:count], atol=1e-5, rtol=1e-4)
