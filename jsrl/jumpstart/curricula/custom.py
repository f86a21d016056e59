"""A curriculum of the user's own, by ``module:attribute`` or ``file.py:attribute``."""

from dataclasses import dataclass, field
from typing import Any

from jsrl.core.loading import check_arguments, load_attribute
from jsrl.core.protocols import Curriculum
from jsrl.core.ranges import required
from jsrl.jumpstart.curricula.base import DecidingOptions, curricula


@dataclass
class CustomOptions(DecidingOptions):
    """Of ``curriculum=custom``."""

    # What makes the curriculum: module:attribute or file.py:attribute.
    target: str | None = None
    # Its keyword arguments, as curriculum.arguments.NAME=VALUE.
    arguments: dict[str, Any] = field(default_factory=dict)

    advice = "what it is to be given goes into curriculum.arguments.NAME=VALUE"

    def check(self) -> None:
        super().check()
        what = "module:attribute or file.py:attribute"
        required("curriculum.target", self.target, "curriculum=custom", what)


@curricula.register("custom", CustomOptions)
def make_custom(options: CustomOptions, initial_guide_steps: int, guide_score: float) -> Curriculum:
    """What the user's own object makes of ``initial_guide_steps``, ``best`` and the arguments."""
    options.check()
    target = str(options.target)
    attribute = load_attribute(target, "curriculum.target")
    given = {
        "initial_guide_steps": initial_guide_steps,
        "best": guide_score,
        **options.arguments,
    }
    check_arguments(attribute, given, target, "curriculum.arguments")
    curriculum: Curriculum = attribute(**given)
    return curriculum
