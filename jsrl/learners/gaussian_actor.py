"""The Gaussian policy that IQL, AWAC, behaviour cloning and the like train."""

from jsrl.learners.options import ActorOptions, LearnerInputs
from jsrl.networks.policies import GaussianPolicy


def gaussian_actor(
    options: ActorOptions, inputs: LearnerInputs, exploration_noise: float | None = None
) -> GaussianPolicy:
    """The policy that a learner's options ask for, all parameters 0.

    Args:
        options: of the learner.
        inputs: of the learner.
        exploration_noise: see ``GaussianPolicy``.
    """
    return GaussianPolicy(
        len(inputs.streams),
        inputs.observation.size,
        inputs.actions.size,
        options.hidden,
        inputs.layers.actor.activation,
        inputs.layers.actor.layer_norm,
        tanh_mean=options.tanh_mean,
        log_std_range=options.log_std_range,
        action_clip=options.online_action_clip,
        exploration_noise=exploration_noise,
        normalise_observations=options.normalise_observations,
        images=inputs.observation.image_shapes,
        encoder=options.encoder,
    )
