"""The lines that a run prints before it begins, on its data and on every conversion in force."""

from jsrl.core.conversions import env_action_line, reward_line
from jsrl.core.specs import EnvSpec
from jsrl.guides import guide_line
from jsrl.run.components import Components

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
    lines.append(_guide_line(components))
    lines.append(time_limit_line(components.spec))
    lines.append(config.learner.run_line(config.env.num_envs, config.online.steps))
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


def _guide_line(components: Components) -> str | None:
    """Say how the guide's actions become the environment's."""
    if components.guide_learner is None:
        return guide_line(components.guide)
    # Made later, of the learner that is pre-trained here.
    return components.config.guide.view().bind(components.spec).action_line("policy")


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
