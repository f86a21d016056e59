"""The schemas of ``jsrl dataset FAMILY``, one a family, registered with Hydra."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from jsrl.guides import GuideOptions
from jsrl.settings.schema import EnvConfig


@dataclass
class PointMazeDataConfig:
    """``jsrl dataset pointmaze path=FILE``: rollouts of the waypoint controller in a maze."""

    # The file to write.
    path: str = MISSING
    # How many transitions.
    transitions: int = 3000
    # Of everything that is drawn.
    seed: int = 0
    # Standard deviation of the Gaussian noise on actions.
    noise: float = 0.5
    # Of the controller: on the distance to the next point.
    proportional_gain: float = 3.0
    # Of the controller: on the velocity.
    derivative_gain: float = 0.5
    env: EnvConfig = MISSING


@dataclass
class RolloutDataConfig:
    """``jsrl dataset rollouts env=NAME guide=python guide.target=FILE.py:NAME path=FILE``."""

    # The file to write.
    path: str = MISSING
    # How many transitions.
    transitions: int = 10_000
    # Of everything that is drawn.
    seed: int = 0
    env: EnvConfig = MISSING
    guide: GuideOptions = MISSING


@dataclass
class AntMazeDataConfig:
    """``jsrl dataset antmaze env=antmaze_umaze_diverse guide=npz guide.path=FILE``.

    ``workers`` null is one for each core. ``noise`` is the standard deviation of the Gaussian
    noise on actions.
    """

    # The file to write.
    path: str = MISSING
    # How many transitions.
    transitions: int = 1_000_000
    # Of everything that is drawn.
    seed: int = 0
    # Standard deviation of the Gaussian noise on actions.
    noise: float = 0.2
    # Processes at a time; null: one for each core.
    workers: int | None = None
    env: EnvConfig = MISSING
    guide: GuideOptions = MISSING


@dataclass
class BehaviourCloningConfig:
    """``noise`` is the standard deviation of the Gaussian noise on actions of the rollouts.

    On the 25 human demonstrations of door, four seeds of these defaults open it in 8 % of rollouts
    (0 to 18 %); 2,000 updates without dropout in 3 %, and 20,000 in none (one seed, noise 0.1).
    """

    # Of the clone of the demonstrations.
    updates: int = 5000
    # In [0, 1).
    dropout: float = 0.1
    # Standard deviation of the Gaussian noise on its actions.
    noise: float = 0.05


@dataclass
class AdroitDataConfig:
    """``jsrl dataset adroit env=adroit_door demonstrations=FILE``.

    ``demonstrations``: a file in D4RL's layout, a D4RL name or a Minari id; null for none. With
    ``guide=none`` the rollouts are those of their clone, else of the guide.
    """

    # The file to write.
    path: str = MISSING
    # How many transitions.
    transitions: int = 100_000
    # Of everything that is drawn.
    seed: int = 0
    # A file in D4RL's layout, a D4RL name or a Minari id; null: none.
    demonstrations: str | None = None
    behaviour_cloning: BehaviourCloningConfig = field(default_factory=BehaviourCloningConfig)
    env: EnvConfig = MISSING
    guide: GuideOptions = MISSING


@dataclass
class DatasetReportConfig:
    """``jsrl dataset report path=FILE``: a file, a D4RL name or a Minari id.

    ``output`` null writes beside the file, or for a name into the working folder.
    """

    # A file, a D4RL name or a Minari id.
    path: str = MISSING
    # A folder for the report; null: beside the file.
    output: str | None = None
