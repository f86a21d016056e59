"""The typed schema of ``jsrl attack``."""

from dataclasses import dataclass

from omegaconf import MISSING

from jsrl.monitor.studies.attacks import AttackOptions


@dataclass
class AttackJobConfig:
    """``jsrl attack run=DIR``, or ``jsrl attack model=module:factory data=FILE``.

    What an attack does to answers and success, at several sizes, and which families of the
    monitor's statistics notice it. Random noise of the same size is tried beside it.
    """

    # The folder of a run; null: of a model.
    run: str | None = None
    # A classifier, as module:factory or file.py:factory, whose code runs; null: of a run.
    model: str | None = None
    # Of a model: an npz file with inputs and labels.
    data: str | None = None
    attack: AttackOptions = MISSING
    # One of the run's seeds, or the seed of a model's draws; null: all of the run's, or 0.
    seed: int | None = None
    # A regular expression of the layers that are watched.
    layers: str = r"inputs|.*activation_\d+|outputs"
    # Steps from one that is watched to the next.
    interval: int = 5
    # Episodes of each attack at each size.
    episodes: int = 30
    # Trusted episodes that they are compared with; of a model, samples.
    reference: int = 60
    # Episodes that are tested together; of a model, samples.
    window: int = 3
    # Splits that each test draws.
    permutations: int = 999
    # Environments that run at a time.
    num_envs: int = 10
    # Standard deviation of the noise by which the policy is smoothed, in those of its
    # observations; 0: as it is.
    smoothing: float = 0.0
    # Noisy observations over which its answer is taken.
    smoothing_samples: int = 16
    # A folder for the report; null: attack in the run, or in the working folder.
    output: str | None = None
