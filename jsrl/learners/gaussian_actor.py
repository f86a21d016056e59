"""The Gaussian policy that IQL, behaviour cloning and the like train."""

from jsrl.learners.options import ActorOptions, LearnerInputs
from jsrl.networks.policies import GaussianPolicy


def gaussian_actor(options: ActorOptions, inputs: LearnerInputs) -> GaussianPolicy:
    """The policy that a learner's options ask for, all parameters 0."""
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
        normalise_observations=options.normalise_observations,
        images=inputs.observation.image_shapes,
        encoder=options.encoder,
    )
