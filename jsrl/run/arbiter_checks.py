"""What can be told to be wrong with the choice of a rule of who acts."""

from collections.abc import Callable

from jsrl.core.arbitration import (
    DATA,
    ENSEMBLE,
    GUIDE_V,
    LOG_PROB,
    NEXT_GUIDE,
    TAKEOVER,
    Arbiter,
    observes_share,
)
from jsrl.core.errors import UserError
from jsrl.core.foreign import has_memory
from jsrl.core.protocols import BootstrapsFromActions, CountsCritics, Guide
from jsrl.guides import GuideOptions, guides
from jsrl.jumpstart.arbiters import ArbiterOptions, TargetOptions, arbiters, build_arbiter
from jsrl.learners import LearnerOptions, learners
from jsrl.rollout.critics import WHAT, offered
from jsrl.settings.schema import TrainConfig


def check_arbiter(config: TrainConfig) -> None:
    """That a rule of who acts can do what it is for with this curriculum, guide and learner."""
    arbiter, curriculum = config.arbiter, config.curriculum.kind
    if not arbiters[arbiter.kind].options.uses_guide_steps:
        if config.guide.kind == "none":
            raise UserError(
                f"arbiter={arbiter.kind} settles when the guide acts, but guide=none; choose a "
                "guide, or arbiter=handover"
            )
        if curriculum != "none":
            raise UserError(
                f"arbiter={arbiter.kind} does not go by the guide steps of a curriculum, but "
                f"curriculum={curriculum}; use curriculum=none, or arbiter=handover"
            )
    if arbiter.goes_by_success and config.env.success_key is None:
        raise UserError(
            f"arbiter.metric=success of arbiter={arbiter.kind} needs to know of success, but "
            "env.success_key is null; name the entry of info that says so, or use "
            "arbiter.metric=return"
        )
    rule, learner = build_arbiter(arbiter), learners[config.learner.kind].make
    # What makes a learner of the user's own is known once it is made.
    if isinstance(learner, type):
        refuse_without_values(rule, arbiter, config.learner, learner)
        check_targets(config, rule, learner)
    _refuse_guide(rule, config)
    if DATA in rule.needs and config.dataset.kind == "none":
        raise UserError(
            f"arbiter={arbiter.kind} begins with the episodes of the dataset, but dataset=none; "
            "choose a dataset, or, with arbiter=monitor, arbiter.trust=training"
        )


def _refuse_guide(rule: Arbiter, config: TrainConfig) -> None:
    """Raise UserError if a rule asks the guide for what guides of its kind cannot do."""
    kind, guide = config.arbiter.kind, config.guide
    valued = _guides_which(lambda options: options.has_networks)
    asking = _guides_which(lambda options: options.takes_over)
    if rule.needs & {LOG_PROB, GUIDE_V} and not guide.has_networks:
        raise UserError(
            f"arbiter={kind} needs the values and log-probabilities of the guide itself, which "
            f"guide={guide.kind} does not give; use {valued}, or another "
            "arbiter such as ibrl"
        )
    if TAKEOVER in rule.needs and not guide.takes_over:
        raise UserError(
            f"arbiter={kind} needs a guide that takes over and gives back by itself, which guide="
            f"{guide.kind} does not; use {asking}, or another arbiter"
        )


def _guides_which(can: Callable[[type[GuideOptions]], bool]) -> str:
    """The kinds of guides whose options say that they can do something."""
    having = [name for name in guides.names() if can(guides[name].options)]
    return " or ".join(f"guide={name}" for name in having)


def refuse_without_values(
    rule: Arbiter, arbiter: ArbiterOptions, learner: LearnerOptions, made: type
) -> None:
    """Raise UserError if a rule needs values that learners of this class do not give."""
    wanted = rule.needs & WHAT.keys()
    missing = sorted(wanted - offered(made))
    if not missing:
        if ENSEMBLE in wanted and isinstance(learner, CountsCritics) and learner.critics < 2:
            raise UserError(
                f"arbiter={arbiter.kind} goes by how far several critics agree, but "
                f"learner.critics={learner.critics}; use learner.critics=2 or more"
            )
        return
    having = [
        name
        for name in learners.names()
        for make in [learners[name].make]
        if isinstance(make, type) and wanted <= offered(make)
    ]
    raise UserError(
        f"arbiter={arbiter.kind} needs {' and '.join(WHAT[name] for name in missing)}, which "
        f"learner={learner.kind} does not have; choose one of learner={', '.join(having)}, or "
        "another arbiter"
    )


def check_targets(
    config: TrainConfig, rule: Arbiter, made: object, guide: Guide | None = None
) -> bool:
    """Whether the rule says with which actions targets are made.

    Args:
        config: of the run.
        rule: of who acts.
        made: the class of the learner; anything else is not known to listen to the rule.
        guide: of the run, once it is there.

    Raises:
        UserError: if nobody can say what the guide would do in the successors of transitions.
    """
    listens = isinstance(made, type) and issubclass(made, BootstrapsFromActions)
    if NEXT_GUIDE not in rule.needs or not listens:
        return False
    makes = f"arbiter={config.arbiter.kind} makes targets with what the guide would do"
    has_option = isinstance(config.arbiter, TargetOptions)
    otherwise = "use " + ("arbiter.bootstrap=false" if has_option else "a rule without a target")
    named, data = f"guide={config.guide.kind}", learns_from_data(config)
    if config.guide.kind == "none":
        raise UserError(f"{makes}, but {named}; choose a guide, or {otherwise}")
    if config.replay.relabel is not None:
        raise UserError(
            f"{makes}, which is not known under other goals than its own, but "
            f"replay.relabel={config.replay.relabel}; leave that out, or {otherwise}"
        )
    if data and config.guide.asks_person():
        raise UserError(
            f"{makes}, and {named} would ask a person in every state of the data; set "
            f"online.offline_fraction=0, or {otherwise}"
        )
    if data and has_memory(guide):
        raise UserError(
            f"{makes} in the data's states too, where {named} cannot be asked, since it remembers "
            f"the steps before; set online.offline_fraction=0, choose another guide, or {otherwise}"
        )
    return True


def learns_from_data(config: TrainConfig) -> bool:
    """Whether minibatches of online learning hold offline data."""
    return config.dataset.kind != "none" and config.online.offline_fraction != 0


def targets_line(config: TrainConfig, rule: Arbiter, made: type) -> str | None:
    """Say that the targets of a learner are none of which a rule has a say."""
    if NEXT_GUIDE not in rule.needs or issubclass(made, BootstrapsFromActions):
        return None
    return (
        f"arbiter={config.arbiter.kind} says who acts, and would say with which action targets are "
        f"made, but those of learner={config.learner.kind} take no action that could be another "
        "one: they stay as they are"
    )


def observed_share_line(config: TrainConfig, rule: Arbiter) -> str | None:
    """Say that the explorer observes more than the environment, where that is so."""
    if not observes_share(rule):
        return None
    return (
        f"arbiter={config.arbiter.kind}: explorer and critics observe the explorer's share too, as "
        "a last column; in data it is 1, and so it is for the policy that is exported or guides"
    )
