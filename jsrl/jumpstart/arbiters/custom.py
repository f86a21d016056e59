"""A rule of the user's own, by ``module:attribute`` or ``file.py:attribute``."""

from dataclasses import dataclass, field
from typing import Any

from jsrl.core.arbitration import (
    NEEDS,
    NEXT_GUIDE,
    OBSERVED_SHARE,
    Arbiter,
    HasTarget,
    SaysShareBefore,
)
from jsrl.core.errors import UserError
from jsrl.core.loading import check_arguments, load_attribute
from jsrl.core.ranges import required
from jsrl.jumpstart.arbiters.base import ArbiterOptions, arbiters


@dataclass
class CustomOptions(ArbiterOptions):
    """Of ``arbiter=custom``."""

    # What makes the rule: module:attribute or file.py:attribute.
    target: str | None = None
    # Its keyword arguments, as arbiter.arguments.NAME=VALUE.
    arguments: dict[str, Any] = field(default_factory=dict)

    advice = "what the rule is to be given goes into arbiter.arguments.NAME=VALUE"
    uses_guide_steps = True

    def check(self) -> None:
        super().check()
        what = "module:attribute or file.py:attribute"
        required("arbiter.target", self.target, "arbiter=custom", what)


@arbiters.register("custom", CustomOptions)
def make_custom(options: CustomOptions) -> Arbiter:
    """What the user's own object makes of the arguments.

    Raises:
        UserError: if there is no such object, or it makes no rule.
    """
    options.check()
    target = str(options.target)
    attribute = load_attribute(target, "arbiter.target")
    check_arguments(attribute, options.arguments, target, "arbiter.arguments")
    rule = attribute(**options.arguments)
    named = f"arbiter.target={target!r}"
    if not isinstance(rule, Arbiter):
        raise UserError(
            f"{named} makes a {type(rule).__name__}, which is no rule of who acts: extend "
            "jsrl.jumpstart.arbiters.Rule and write decide(self, moment, state, streams)"
        )
    unknown = sorted(set(rule.needs) - set(NEEDS))
    if unknown:
        raise UserError(
            f"{named} needs {', '.join(unknown)}, which is unknown; a rule may need "
            f"{', '.join(NEEDS)}"
        )
    if isinstance(rule, HasTarget) and NEXT_GUIDE not in rule.needs:
        raise UserError(
            f"{named} has a method target, and no {NEXT_GUIDE!r} in its needs, so that it would "
            "never be asked; name it there, or leave the method out"
        )
    if isinstance(rule, SaysShareBefore) and OBSERVED_SHARE not in rule.needs:
        raise UserError(
            f"{named} has a method share_to_come, and no {OBSERVED_SHARE!r} in its needs, so that "
            "nobody would observe the share; name it there, or leave the method out"
        )
    return rule
