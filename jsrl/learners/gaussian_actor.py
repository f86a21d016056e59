"""The policies that IQL, AWAC, behaviour cloning and the like train, by a learner's options."""

from typing import Any

from jsrl.learners.options import ActorOptions, LearnerInputs
from jsrl.networks.policies import GaussianPolicy


def actor_arguments(options: ActorOptions, inputs: LearnerInputs) -> dict[str, Any]:
    """What every ``MlpPolicy`` takes."""
    return {
        "num_seeds": len(inputs.streams),
        "observation_size": inputs.observation.size,
        "action_size": inputs.actions.size,
        "hidden": options.hidden,
        "activation": inputs.layers.actor.activation,
        "layer_norm": inputs.layers.actor.layer_norm,
        "normalise_observations": options.normalise_observations,
        "images": inputs.observation.image_shapes,
        "encoder": options.encoder,
    }


def gaussian_actor(
    options: ActorOptions, inputs: LearnerInputs, exploration_noise: float | None = None
) -> GaussianPolicy:
    """A Gaussian policy, all parameters 0.

    Args:
        options: of the learner.
        inputs: of the learner.
        exploration_noise: see ``GaussianPolicy``.
    """
    return GaussianPolicy(
        **actor_arguments(options, inputs),
        tanh_mean=options.tanh_mean,
        log_std_range=options.log_std_range,
        action_clip=options.online_action_clip,
        exploration_noise=exploration_noise,
    )
