"""No guide: the exploration-policy learns alone."""

from jsrl.guides.options import GuideInputs, GuideOptions, guides


@guides.register("none")
def make_none(options: GuideOptions, inputs: GuideInputs) -> None:
    """Nobody acts before the exploration-policy."""
