"""Behaviour policies as npz files: random ones, and the real ones that some machines have.

The real ones lie beside a checkout; tests that need them skip without them.
"""

from pathlib import Path

import numpy as np
import pytest

POLICIES = Path(__file__).parents[1] / "../shared/data/behaviour_policies"
ANT = POLICIES / "ant_goal_reaching.npz"
PEN_EXPERT = POLICIES / "adroit_pen_expert.npz"

needs_policies = pytest.mark.skipif(
    not POLICIES.exists(), reason="D4RL's behaviour policies are not on this machine"
)


def layer(rng, inputs, outputs):
    return rng.normal(size=(outputs, inputs)).astype(np.float32) / np.sqrt(inputs)


def ant_arrays(width=16):
    rng = np.random.default_rng(0)
    return {
        "hidden_0_weight": layer(rng, 29, width),
        "hidden_0_bias": rng.normal(size=width).astype(np.float32),
        "hidden_1_weight": layer(rng, width, width),
        "hidden_1_bias": rng.normal(size=width).astype(np.float32),
        "mean_weight": layer(rng, width, 8),
        "mean_bias": np.zeros(8, np.float32),
        "log_std_weight": layer(rng, width, 8),
        "log_std_bias": np.full(8, -1, np.float32),
    }


def expert_arrays(inputs=45, actions=24):
    rng = np.random.default_rng(1)
    return {
        "hidden_0_weight": layer(rng, inputs, 12),
        "hidden_0_bias": rng.normal(size=12).astype(np.float32),
        "mean_weight": layer(rng, 12, actions),
        "mean_bias": rng.normal(size=actions).astype(np.float32),
        "log_std": np.full(actions, -2, np.float32),
        "observation_shift": rng.normal(size=inputs).astype(np.float32),
        "observation_scale": np.full(inputs, 2, np.float32),
        "action_shift": np.full(actions, 0.1, np.float32),
        "action_scale": np.full(actions, 0.3, np.float32),
    }
