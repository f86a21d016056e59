"""The lines that a run prints before it begins, on its data and on every conversion in force."""

from omegaconf import OmegaConf

from jsrl.core.conversions import env_action_line, reward_line
from jsrl.core.specs import EnvSpec
from jsrl.guides import GuideOptions, guide_lines
from jsrl.learners import LearnerOptions
from jsrl.run.arbiter_checks import observed_share_line, targets_line
from jsrl.run.components import Components
from jsrl.settings.schema import TrainConfig
from jsrl.settings.stages import OnlineConfig

LONG_EPISODE = 100_000
"""Steps, from which on a time limit is mentioned."""


def start_lines(components: Components) -> list[str]:
    """Return a line for each thing that a user should know before the run takes its time.

    Args:
        components: those of the run.
    """
    config = components.config
    lines: list[str | None] = []
    if components.dataset is not None:
        lines += [components.dataset.summary(), *components.dataset.notices()]
    lines.append(components.spec.observation_line)
    lines.append(env_action_line(components.spec))
    lines += _guide_lines(components)
    lines.append(unmeasured_line(config.guide))
    lines.append(time_limit_line(components.spec))
    lines.append(config.learner.run_line(config.env.num_envs, config.online.steps))
    lines += preset_lines(config)
    lines.append(targets_line(config, components.arbiter, type(components.learner)))
    lines.append(observed_share_line(config, components.arbiter))
    lines.append(no_update_line(config.learner, config.online))
    transform = config.learner.reward_transform()
    if transform is not None:
        lines.append(reward_line(*transform))
    lines.append(_unsaved_line(components))
    return [line for line in lines if line is not None]


def time_limit_line(spec: EnvSpec) -> str | None:
    """Say that an episode may last for very long, if it may."""
    limit = spec.max_episode_steps
    if limit <= LONG_EPISODE:
        return None
    return (
        f"time limit: an episode of {spec.id} that does not end by itself goes on for {limit:,} "
        "steps, and an evaluation waits for it; env.max_episode_steps=N ends it before"
    )


def preset_lines(config: TrainConfig) -> list[str]:
    """Say where the configuration differs from what the chosen preset of a learner relies on."""
    lines, given = [], OmegaConf.structured(config)
    for key, wanted in config.learner.made_for.items():
        value = OmegaConf.select(given, key)
        if value != wanted:
            lines.append(
                f"the learner's preset is made for {key}={wanted}, and with {key}={value} it is "
                "another algorithm than the one that it is named after"
            )
    return lines


def no_update_line(learner: LearnerOptions, online: OnlineConfig) -> str | None:
    """Say that a run is too short for any update."""
    steps = online.critic_warmup_steps + online.steps
    waits = learner.learns_offline and online.steps > 0
    if not waits or online.learning_starts < steps:
        return None
    return (
        f"online.learning_starts={online.learning_starts} is not passed in {steps} steps: nothing "
        "is learnt online"
    )


def unmeasured_line(guide: GuideOptions) -> str | None:
    """Say that nothing is evaluated in which the guide acts, where that is so."""
    if guide.is_measured():
        return None
    return (
        f"guide={guide.kind} asks a person, who is not asked in evaluations: the "
        "exploration-policy alone is evaluated (measured=true of guide=human asks there too)"
    )


def _guide_lines(components: Components) -> list[str]:
    """Say how the guide's actions become the environment's, and what else there is to tell."""
    if components.guide_learner is None:
        return guide_lines(components.guide)
    # Made later, of the learner that is pre-trained here.
    line = components.config.guide.view().bind(components.spec).action_line("policy")
    return [] if line is None else [line]


def _unsaved_line(components: Components) -> str | None:
    """Say which commands will not work with policies that no checkpoint can keep."""
    unsaved = components.unsaved_policies()
    if not unsaved:
        return None
    named = " and ".join(f"the {name} policy ({reason})" for name, reason in unsaved.items())
    return (
        f"{named} will not be in the checkpoints: this run trains, resumes and evaluates at its "
        "end, but jsrl evaluate, jsrl export, jsrl monitor, guide=run and jsrl.load_policy will "
        "not work with it; see jsrl.networks.seed_policy for how a class is registered"
    )
