"""A learner of the user's own, by ``module:attribute`` or ``file.py:attribute``."""

from dataclasses import dataclass, field
from typing import Any

from jsrl.core.errors import UserError
from jsrl.core.loading import check_arguments, load_attribute, takes
from jsrl.core.protocols import Consumes, DataNeeds, Learner, SaysItsNeeds
from jsrl.core.ranges import required
from jsrl.core.specs import EnvSpec
from jsrl.learners.options import LearnerInputs, LearnerOptions, learners
from jsrl.learners.trial import try_policy


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
    """What the user's own object makes of the spaces, the seeds' streams and the arguments.

    It is given the keywords ``streams``, ``batch_size``, ``device``, ``observation_size`` (O) and
    ``action_size`` (A, or the number of choices). One that has a parameter ``observation`` is given
    the environment's ``ObservationSpec``, and one with ``actions`` its ``ActionSpec``; it needs no
    parameter for the size then. Its policy is asked for one action, see ``try_policy``.

    Raises:
        UserError: if there is no such object, it does not take these, it needs other data than
            transitions, or what its policy answers is no action.
    """
    options.check()
    target = str(options.target)
    attribute = load_attribute(target, "learner.target")
    given = {
        "streams": inputs.streams,
        "batch_size": options.batch_size,
        "device": inputs.device,
        **_spaces(attribute, inputs),
        **options.arguments,
    }
    check_arguments(attribute, given, target, "learner.arguments")
    learner: Learner = attribute(**given)
    if not (isinstance(learner, SaysItsNeeds) and isinstance(learner.needs, DataNeeds)):
        raise UserError(
            f"learner.target={target!r} has no DataNeeds as its attribute needs, which says what "
            "its updates take; "
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
    try_policy(learner.policy(), inputs, f"learner.target={target!r}")
    return learner


def _spaces(attribute: Any, inputs: LearnerInputs) -> dict[str, Any]:
    """The specs of the environment that the object takes, and the sizes."""
    found: dict[str, Any] = {}
    for name, spec, size in (
        ("observation", inputs.observation, "observation_size"),
        ("actions", inputs.actions, "action_size"),
    ):
        if takes(attribute, name):
            found[name] = spec
        if name not in found or takes(attribute, size):
            found[size] = spec.size
    return found
