"""A policy of d3rlpy as a guide; how d3rlpy is installed beside jsrl, ``guide=d3rlpy`` says itself.

    python scripts/examples/guide_d3rlpy.py policy.d3
    jsrl train env=gymnasium env.id=Pendulum-v1 env.success_key=null curriculum.metric=return \
        learner=sac dataset=none offline.updates=0 guide=d3rlpy guide.path=policy.d3
"""

import sys

import d3rlpy
import numpy as np
from d3rlpy.preprocessing import MinMaxActionScaler


def save_policy(path: str, steps: int = 500) -> None:
    """Clone a torque that adds to Pendulum's swing. Without a scaler it would act in [-1, 1]."""
    rows = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    ends, rewards = np.arange(256) % 64 == 63, np.zeros(256)
    data = d3rlpy.dataset.MDPDataset(rows, 2.0 * np.tanh(rows[:, 2:3]), rewards, ends)
    scaler = MinMaxActionScaler(minimum=np.full(1, -2.0), maximum=np.full(1, 2.0))
    algorithm = d3rlpy.algos.BCConfig(action_scaler=scaler).create(device="cpu:0")
    algorithm.build_with_dataset(data)
    nowhere = d3rlpy.logging.NoopAdapterFactory()
    if steps:
        algorithm.fit(data, steps, steps, logger_adapter=nowhere, show_progress=False)
    algorithm.save(path)


if __name__ == "__main__":
    save_policy(sys.argv[1])
