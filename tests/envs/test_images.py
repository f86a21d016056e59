"""Images in observations: which are read, as what pixels, and which are refused."""

import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from odd_envs import BOX, odd, odd_observations

from jsrl.core.errors import UserError
from jsrl.envs.make import Environments, describe_env, make_env


def pixels(*shape):
    return spaces.Box(0, 255, shape, np.uint8)


def channels_last(raw):
    return np.stack([raw[..., channel] for channel in range(raw.shape[-1])])


def stacked(raw):
    """Frames with the channels last: the channels of the first frame come first."""
    return np.concatenate([channels_last(frame) for frame in raw])


def four_frames(env):
    return wrappers.FrameStackObservation(env, 4)


# The space of an image, what is wrapped around its environment, and what it has to become.
IMAGES = {
    "channels last": (pixels(96, 95, 3), None, channels_last),
    "channels last, small": (pixels(4, 3, 2), None, channels_last),
    "channels first": (pixels(4, 84, 83), None, lambda raw: raw),
    "grey": (pixels(84, 83), None, lambda raw: raw[None]),
    "grey with an axis": (pixels(9, 8, 1), None, channels_last),
    "stack, channels last": (pixels(2, 12, 11, 3), None, stacked),
    "stack, channels first": (pixels(2, 3, 12, 11), None, np.concatenate),
    "stacked by a wrapper": (pixels(96, 95, 3), four_frames, stacked),
    "stacked grey frames": (pixels(84, 83), four_frames, lambda raw: raw),
}


def of_parts(seen, step, part):
    return [observation.images[part] for observation in (seen, step.observation)]


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("name", IMAGES)
def test_images_of_bytes_have_the_environments_own_pixels_with_channels_first(name, way):
    space, wrap, arranged = IMAGES[name]
    settings = odd(space, wrap=wrap, vectorisation=way)
    spec = describe_env(settings)
    environments = Environments(settings, 2)
    seen = environments.reset(np.ones(2, bool), [1, 2])
    step = environments.step(np.zeros((2, 2), np.float32))
    environments.close()
    assert spec.observation.size == 0 and seen.vector.shape == (2, 0)
    for index in range(2):
        own = odd_observations(settings, index + 1)
        for found, raw in zip(of_parts(seen, step, "observation"), own, strict=True):
            expected = arranged(np.asarray(raw))
            assert found.dtype == torch.uint8
            assert spec.observation.image_shapes == {"observation": expected.shape}
            np.testing.assert_array_equal(found[index].numpy(), expected)
    # The two environments differ, and so do the two moments, or nothing was compared.
    first, second = of_parts(seen, step, "observation")
    assert not torch.equal(first[0], first[1]) and not torch.equal(first, second)


def test_images_stand_beside_the_vector_wherever_they_are_in_the_observation():
    space = spaces.Dict(
        {
            "eyes": spaces.Tuple((pixels(8, 9, 3), pixels(8, 9))),
            "gear": spaces.Discrete(3),
            "pixels": pixels(3, 8, 8),
            "speed": BOX,
        }
    )
    settings = odd(space)
    spec = describe_env(settings)
    assert spec.observation.layout == (("gear", 0, 3), ("speed", 3, 5))
    shapes = {"eyes.0": (3, 8, 9), "eyes.1": (1, 8, 9), "pixels": (3, 8, 8)}
    assert spec.observation.image_shapes == shapes
    environments = Environments(settings, 2)
    seen = environments.reset(np.ones(2, bool), [4, 5])
    step = environments.step(np.zeros((2, 2), np.float32))
    environments.close()
    for index in range(2):
        own = odd_observations(settings, index + 4)
        for found, raw in zip((seen, step.observation), own, strict=True):
            vector = np.concatenate([np.eye(3)[raw["gear"]], raw["speed"]], dtype=np.float32)
            np.testing.assert_array_equal(found.vector[index].numpy(), vector)
            images = {
                "eyes.0": channels_last(raw["eyes"][0]),
                "eyes.1": raw["eyes"][1][None],
                "pixels": raw["pixels"],
            }
            assert found.images.keys() == images.keys()
            for name, expected in images.items():
                np.testing.assert_array_equal(found.images[name][index].numpy(), expected)


def test_images_of_earlier_steps_are_not_overwritten():
    environments = Environments(odd(pixels(8, 9, 3)), 2)
    kept = [environments.reset(np.ones(2, bool), [1, 2])]
    copies = [kept[0].copy()]
    for _ in range(3):
        kept.append(environments.step(np.zeros((2, 2), np.float32)).observation)
        copies.append(kept[-1].copy())
    environments.close()
    for one, copied in zip(kept, copies, strict=True):
        assert torch.equal(one.images["observation"], copied.images["observation"])


def test_bytes_that_a_user_flattens_are_a_vector():
    flat = odd(pixels(4, 3), wrap=wrappers.FlattenObservation)
    assert describe_env(flat).observation.size == 12
    assert describe_env(flat).observation.images == ()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, (84, 84, 3), np.float32),
        spaces.Box(0, 1, (3, 64, 64), np.float64),
        spaces.Box(0, 255, (48, 48), np.int32),
        spaces.Dict({"speed": BOX, "pixels": spaces.Box(0, 1, (84, 84), np.float32)}),
    ],
)
def test_images_of_anything_but_bytes_are_refused_in_one_line(space):
    name = "pixels" if isinstance(space, spaces.Dict) else "observation"
    match = f"observes an image, Box.*, as '{name}'; images of bytes were expected"
    with pytest.raises(UserError, match=match) as caught:
        describe_env(odd(space))
    assert "\n" not in str(caught.value)
    assert "TransformObservation" in str(caught.value)


@pytest.mark.parametrize(
    "shape", [(8, 8, 8), (8, 3, 8), (3, 8, 3), (2, 8, 8, 8), (2, 2, 8, 8, 3), (1, 1, 1)]
)
def test_images_of_which_the_channels_cannot_be_told_are_refused_in_one_line(shape):
    match = "observes an image, Box.*, as 'observation', of which it cannot be told which axis"
    with pytest.raises(UserError, match=match) as caught:
        describe_env(odd(pixels(*shape)))
    assert "\n" not in str(caught.value)
    assert "TransformObservation" in str(caught.value)


@pytest.mark.parametrize(
    ("space", "change", "shape"),
    [
        (spaces.Box(0, 1, (9, 8, 3), np.float32), lambda o: (255 * o).astype(np.uint8), (9, 8, 3)),
        (pixels(8, 8, 8), lambda o: o[..., :3], (8, 8, 3)),
    ],
)
def test_images_that_are_refused_are_usable_as_the_refusals_advise(space, change, shape):
    settings = odd(
        space, wrap=lambda env: wrappers.TransformObservation(env, change, pixels(*shape))
    )
    own, _ = odd_observations(settings, 3)
    environments = Environments(settings, 1)
    seen = environments.reset(np.ones(1, bool), [3]).images["observation"][0].numpy()
    environments.close()
    np.testing.assert_array_equal(seen, channels_last(own))


def test_stacking_real_frames_makes_no_image_of_bytes_of_them():
    def scaled(env):
        return wrappers.TransformObservation(
            env, lambda image: image / 255.0, spaces.Box(0, 1, (96, 96, 3), np.float64)
        )

    with pytest.raises(UserError, match=r"observes an image.*images of bytes were expected"):
        make_env(odd(pixels(96, 96, 3), wrap=scaled))
