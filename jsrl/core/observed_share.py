"""The explorer's share as a column of what the explorer and its critics observe.

Where a rule of who acts says the share of a step before the step, the explorer may know of it: then
its observations, and those of its replay, have one column more than the environment's. Guides never
see that column. Where the explorer acts alone, as in data from files and once it is deployed, the
share is 1.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.core.specs import EnvSpec, ObservationSpec, VectorPart
from jsrl.core.transitions import TransitionData

COLUMN = "explorer_share"
"""The name of the column, which is the last one."""

ALONE = 1.0
"""The share of an explorer that acts alone."""


def spec_with_share(spec: EnvSpec) -> EnvSpec:
    """What the explorer observes of an environment, if it observes its share."""
    observed = spec.observation
    widened = ObservationSpec((*observed.vector, VectorPart((COLUMN,), (1,))), observed.images)
    return EnvSpec(spec.id, widened, spec.actions, spec.max_episode_steps, spec.observation_line)


def with_share(observation: Observation, share: Float[Tensor, "..."]) -> Observation:
    """An observation with the share behind its vector.

    Args:
        observation: of the environment, with any leading axes.
        share: of the explorer, with these axes.
    """
    vector = observation.vector
    column = share.to(vector.device, vector.dtype).unsqueeze(-1)
    return Observation(torch.cat([vector, column], -1), observation.images)


def share_in(observation: Observation) -> Float[Tensor, "..."]:
    """The share that an observation of the explorer has."""
    return observation.vector[..., -1]


def data_with_share(data: TransitionData) -> TransitionData:
    """Transitions of a dataset as the explorer would have observed them, acting alone."""
    alone = np.full((len(data), 1), ALONE, np.float32)
    before, after = (
        np.concatenate([vectors.astype(np.float32), alone], 1)
        for vectors in (data.observations, data.next_observations)
    )
    return replace(data, observations=before, next_observations=after)
