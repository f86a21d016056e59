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
        options.tanh_mean,
        options.log_std_range,
        options.online_action_clip,
        options.normalise_observations,
        inputs.observation.image_shapes,
        options.encoder,
    )
