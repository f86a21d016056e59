"""A policy that robomimic cloned as a guide; ``guide=robomimic`` says how robomimic is installed.

    python scripts/examples/guide_robomimic.py policy.pth
    jsrl train env=gymnasium env.id=Pendulum-v1 env.success_key=null curriculum.metric=return \
        learner=sac dataset=none offline.updates=0 guide=robomimic guide.path=policy.pth \
        guide.action_low=-1 guide.action_high=1

Checkpoints of ``robomimic/scripts/train.py`` are used alike. An environment that observes a
dictionary is to have the names that the policy was trained on.
"""

import sys

import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory
from robomimic.utils.obs_utils import initialize_obs_utils_with_config


def save_policy(path: str, steps: int = 500) -> None:
    """Clone a torque in [-1, 1] that adds to Pendulum's swing, and save the policy."""
    config, shapes = config_factory("bc"), {"observation": [3]}
    with config.values_unlocked():
        config.observation.modalities.obs.low_dim = list(shapes)
        config.algo.actor_layer_dims = (64, 64)
    initialize_obs_utils_with_config(config)
    algorithm = algo_factory("bc", config, shapes, ac_dim=1, device=torch.device("cpu"))
    algorithm.set_train()
    rows = torch.randn(256, 1, 3)
    batch = {"obs": {"observation": rows}, "actions": rows[..., 2:3].sign()}
    for _ in range(steps):
        algorithm.train_on_batch(algorithm.process_batch_for_training(batch), epoch=0)
    sizes = {"all_shapes": shapes, "ac_dim": 1}
    weights = {"model": algorithm.serialize(), "shape_metadata": sizes}
    torch.save({**weights, "algo_name": "bc", "config": config.dump()}, path)


if __name__ == "__main__":
    save_policy(sys.argv[1])
