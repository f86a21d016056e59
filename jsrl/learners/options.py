"""What all learners share in the configuration: their options, their registry, what they get."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.protocols import Consumes, DataNeeds, Learner
from jsrl.core.ranges import all_finite, at_least, one_of
from jsrl.core.registry import KindOptions, Registry
from jsrl.core.rollouts import RolloutNeeds
from jsrl.core.specs import ActionSpec, BoxActions, EnvSpec, ObservationSpec
from jsrl.core.streams import Streams
from jsrl.networks.encoders.encoder import EncoderOptions, encoder_options
from jsrl.networks.encoders.observation import check_encoder
from jsrl.networks.hidden_layers import NetworkLayers
from jsrl.networks.layers import INITIALISATIONS


@dataclass
class LearnerOptions(KindOptions):
    """What every learner has."""

    # Transitions of each seed in an update.
    batch_size: int = 256
    # The dataset's actions are clipped to ± this when they are read.
    data_action_clip: float | None = None
    # How images become numbers.
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    # Keys of other groups that a preset relies on, with their values: a run says what differs.
    made_for: dict[str, Any] = field(default_factory=dict)

    learns_online = True
    """Whether it can learn from what is collected."""
    learns_offline = True
    """Whether it can learn from transitions of others: of a dataset, a guide, or a replay."""
    needs_dataset = False
    """Whether it is made for offline data, and would go wrong without any."""
    networks: ClassVar[tuple[str, ...]] = ("actor", "critic", "value")
    """Those of its networks whose activation the configuration gives."""
    about_data: ClassVar[tuple[str, ...]] = ("data_action_clip",)
    """Options that are about offline data."""

    acts_by: ClassVar[tuple[str, ...]] = ("box",)
    """Which actions it can learn: ``box`` for real numbers, ``discrete`` for choices."""

    def check(self) -> None:
        """Raise UserError for the first value that is out of range."""
        self.encoder.check()
        at_least("learner.batch_size", self.batch_size, 1)
        check_clip("data_action_clip", self.data_action_clip)
        all_finite("learner", self)

    def check_environment(self, spec: EnvSpec) -> None:
        """Raise UserError if it cannot learn from such observations, or with such actions."""
        check_encoder(encoder_options(self.encoder), spec.observation.image_shapes)
        box = isinstance(spec.actions, BoxActions)
        wanted = "box" if box else "discrete"
        if wanted not in self.acts_by:
            taken = "actions of real numbers" if box else f"a choice among {spec.actions.size}"
            others = [n for n in learners.names() if wanted in learners[n].options.acts_by]
            raise UserError(
                f"env.id={spec.id!r} takes {taken}, which learner={self.kind} cannot learn; choose "
                f"learner={' or learner='.join(others)}, or another environment"
            )

    def check_run(self, num_envs: int, steps: int) -> None:
        """Raise UserError if it cannot learn in such a run.

        Args:
            num_envs: environments of each seed.
            steps: environment steps of each seed in online learning.
        """

    def run_line(self, num_envs: int, steps: int) -> str | None:
        """What a user should know of a run with these numbers, see ``check_run``; None: nothing."""
        return None

    def reward_transform(self) -> tuple[float, float] | None:
        """By what the learner multiplies rewards, and what it adds then; None if it uses none."""
        return None


@dataclass
class NetworkOptions(LearnerOptions):
    """Of learners that train perceptrons."""

    # Widths of the hidden layers of every network.
    hidden: list[int] = field(default_factory=lambda: [256, 256])
    # Of Adam, for everything that is trained.
    learning_rate: float = 3e-4
    # Of the weights: orthogonal, pytorch, glorot or variance_scaling.
    initialisation: str = "pytorch"

    def check(self) -> None:
        super().check()
        one_of("learner.initialisation", self.initialisation, tuple(INITIALISATIONS))
        if not self.learning_rate > 0:
            raise UserError(f"learner.learning_rate={self.learning_rate} must be above 0")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"learner.hidden={self.hidden} must be sizes of at least 1")


@dataclass
class NormalisingOptions(NetworkOptions):
    """Of learners whose networks may know the dataset's statistics."""

    # Whether networks see observations normalised by the dataset's mean and spread.
    normalise_observations: bool = False

    about_data = (*LearnerOptions.about_data, "normalise_observations")


@dataclass
class ActorOptions(NormalisingOptions):
    """Of learners that train a Gaussian policy; see ``GaussianPolicy``."""

    initialisation: str = "orthogonal"
    # Share of the actor's hidden units that is left out in an update, in [0, 1).
    dropout: float = 0.0
    # Whether the policy's mean passes a tanh.
    tanh_mean: bool = True
    # [low, high] of the policy's log standard deviation.
    log_std_range: list[float] = field(default_factory=lambda: [-5.0, 2.0])
    # The actor's learning rate in pre-training: cosine, down to 0, or constant.
    actor_schedule: str = "cosine"
    # Actions are clipped to ± this when the policy acts, in (0, 1].
    online_action_clip: float = 1.0

    def check(self) -> None:
        super().check()
        check_clip("online_action_clip", self.online_action_clip)
        one_of("learner.actor_schedule", self.actor_schedule, ("cosine", "constant"))
        check_log_std_range(self.log_std_range)
        if not 0 <= self.dropout < 1:
            raise UserError(f"learner.dropout={self.dropout} must lie in [0, 1)")


@dataclass
class ValueOptions(NormalisingOptions):
    """Of learners that learn the value of discounted rewards, with a target that follows."""

    # Discount of future rewards, in [0, 1].
    discount: float = 0.99
    # Share by which the targets follow the critics in an update, in (0, 1].
    target_rate: float = 0.005
    # The learner learns from reward_scale·reward + reward_shift.
    reward_scale: float = 1.0
    # See reward_scale.
    reward_shift: float = 0.0

    def check(self) -> None:
        super().check()
        if not 0 <= self.discount <= 1:
            raise UserError(f"learner.discount={self.discount} must lie in [0, 1]")
        if not 0 < self.target_rate <= 1:
            raise UserError(f"learner.target_rate={self.target_rate} must lie in (0, 1]")

    def reward_transform(self) -> tuple[float, float]:
        return self.reward_scale, self.reward_shift


@dataclass
class NStepOptions(ValueOptions):
    """Of learners whose critics learn from n-step returns."""

    # n, of the returns that critics learn from: so many rewards, and then the target's value.
    n_step: int = 1

    neutral: ClassVar[tuple[tuple[str, Any], ...]] = (("n_step", 1),)

    def check(self) -> None:
        super().check()
        at_least("learner.n_step", self.n_step, 1)
        if self.n_step > 1 and self.reward_shift != 0:
            raise UserError(
                f"learner.n_step={self.n_step} sums rewards before they are shifted, so that "
                f"learner.reward_shift={self.reward_shift} would be added once a sum; set "
                "learner.reward_shift=0 or learner.n_step=1"
            )

    def needs(self, *batches: tuple[str, ...]) -> DataNeeds:
        """What such a learner's updates take: ``batches`` as ``DataNeeds`` has them."""
        data = Consumes.TRANSITIONS if self.n_step == 1 else Consumes.N_STEP
        return DataNeeds(data, batches, self.n_step, self.discount)


@dataclass
class OnPolicyOptions(NetworkOptions):
    """Of learners that learn from whole rollouts of their own policy, and from nothing else."""

    # Steps of every environment in a rollout, after which there is an update.
    rollout_length: int = 2048
    # How often an update goes through all steps of a rollout.
    epochs: int = 10
    # Steps of each seed in a minibatch.
    batch_size: int = 64
    # Discount of future rewards, in [0, 1].
    discount: float = 0.99
    # λ of generalised advantage estimation, in [0, 1].
    trace: float = 0.95
    # The learner learns from reward_scale·reward + reward_shift.
    reward_scale: float = 1.0
    # See reward_scale.
    reward_shift: float = 0.0

    learns_offline = False

    def check(self) -> None:
        super().check()
        at_least("learner.rollout_length", self.rollout_length, 1)
        at_least("learner.epochs", self.epochs, 1)
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"learner.{name}={getattr(self, name)} must lie in [0, 1]")

    def reward_transform(self) -> tuple[float, float]:
        return self.reward_scale, self.reward_shift

    def rollouts(self) -> RolloutNeeds:
        """How such a learner takes its rollouts."""
        return RolloutNeeds(
            self.rollout_length,
            self.epochs,
            self.batch_size,
            self.trace,
            self.reward_scale,
            self.reward_shift,
        )

    def check_run(self, num_envs: int, steps: int) -> None:
        whole, size = self.rollout_length * num_envs, self.batch_size
        rollout = (
            f"learner.rollout_length={self.rollout_length} of env.num_envs={num_envs} is "
            f"{whole} steps"
        )
        if whole % size:
            fits = [n for n in range(1, whole + 1) if whole % n == 0]
            nearest = min(fits, key=lambda n: abs(n - size))
            raise UserError(
                f"{rollout}, which minibatches of learner.batch_size={size} do not divide; set "
                f"learner.batch_size={nearest}"
            )
        # The last step of all environments may go beyond.
        if 0 < -(-steps // num_envs) < self.rollout_length:
            raise UserError(
                f"online.steps={steps} is less than one rollout, so that nothing would be learnt: "
                f"{rollout}; set online.steps to that or more, or a shorter learner.rollout_length"
            )

    def run_line(self, num_envs: int, steps: int) -> str | None:
        taken = -(-steps // num_envs)
        rollouts, left = divmod(taken, self.rollout_length)
        if not left:
            return None
        return (
            f"online.steps={steps}: after {rollouts} rollouts of {self.rollout_length} steps in "
            f"each of {num_envs} environments come {left} more, from which nothing is learnt "
            "unless the run goes on to more steps"
        )


def check_log_std_range(log_std_range: list[float]) -> None:
    """Raise UserError if the bounds of a log standard deviation are not two, in their order."""
    if len(log_std_range) != 2 or log_std_range[0] > log_std_range[1]:
        raise UserError(f"learner.log_std_range={log_std_range} must be [low, high]")


def check_clip(name: str, clip: float | None) -> None:
    """Raise UserError if a bound of actions does not lie in (0, 1]."""
    if clip is not None and not 0 < clip <= 1:
        raise UserError(f"learner.{name}={clip} must lie in (0, 1], the range of actions")


@dataclass(frozen=True)
class LearnerInputs:
    """What every learner is made from, beside its options.

    Args:
        streams: the seeds; initial weights come from their stream ``initialisation``.
        observation: of the environment.
        actions: of the environment.
        device: where to train.
        layers: what follows the hidden layers of each network.
        observation_mean: of the dataset, for ``normalise_observations``, ``[O]``; None without.
        observation_std: its standard deviation.
    """

    streams: Streams
    observation: ObservationSpec
    actions: ActionSpec
    device: torch.device
    layers: NetworkLayers = field(default_factory=NetworkLayers)
    observation_mean: Float[Tensor, " O"] | None = None
    observation_std: Float[Tensor, " O"] | None = None


class MakeLearner(Protocol):
    """Makes a fresh learner."""

    def __call__(self, options: Any, inputs: LearnerInputs) -> Learner: ...


learners: Registry[MakeLearner] = Registry("learner", LearnerOptions)
"""The kinds of ``learner=…``."""
