"""A learner of the user's own, by ``module:attribute`` or ``file.py:attribute``."""

from dataclasses import dataclass, field
from typing import Any

from jsrl.core.errors import UserError
from jsrl.core.loading import check_arguments, load_attribute
from jsrl.core.protocols import Consumes, Learner, SaysItsNeeds
from jsrl.core.ranges import required
from jsrl.core.specs import EnvSpec
from jsrl.learners.options import LearnerInputs, LearnerOptions, learners


@dataclass
class CustomOptions(LearnerOptions):
    """Of ``learner=custom``."""

    # What makes the learner: module:attribute or file.py:attribute.
    target: str | None = None
    # Its keyword arguments, as learner.arguments.NAME=VALUE.
    arguments: dict[str, Any] = field(default_factory=dict)

    advice = "what the learner is to be given goes into learner.arguments.NAME=VALUE"
    networks = ()
    acts_by = ("box", "discrete")

    def check_environment(self, spec: EnvSpec) -> None:
        """What it can learn from is its own affair."""

    def check(self) -> None:
        super().check()
        what = "module:attribute or file.py:attribute"
        required("learner.target", self.target, "learner=custom", what)


@learners.register("custom", CustomOptions)
def make_custom(options: CustomOptions, inputs: LearnerInputs) -> Learner:
    """What the user's own object makes of the sizes, the seeds' streams and the arguments.

    Raises:
        UserError: if there is no such object, it does not take these, or it needs other data than
            single transitions.
    """
    options.check()
    target = str(options.target)
    attribute = load_attribute(target, "learner.target")
    given = {
        "streams": inputs.streams,
        "observation_size": inputs.observation.size,
        "action_size": inputs.actions.size,
        "batch_size": options.batch_size,
        "device": inputs.device,
        **options.arguments,
    }
    check_arguments(attribute, given, target, "learner.arguments")
    learner: Learner = attribute(**given)
    if not isinstance(learner, SaysItsNeeds):
        raise UserError(
            f"learner.target={target!r} has no attribute needs, which says what its updates take; "
            'give it needs = DataNeeds(Consumes.TRANSITIONS, (("actor",),)), both from '
            "jsrl.core.protocols"
        )
    if learner.needs.data is Consumes.ROLLOUTS:
        raise UserError(
            f"learner.target={target!r} needs {learner.needs.data.value}; learner=custom is fed "
            "transitions, among them the guide's, which are off-policy: say in its needs that it "
            "takes Consumes.TRANSITIONS or Consumes.N_STEP, or register it as a kind of its own "
            "whose options extend OnPolicyOptions of jsrl.learners.options"
        )
    return learner
