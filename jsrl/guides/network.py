"""Guides that are policies of this package: trained a moment ago, or from a checkpoint."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from jsrl.core.checkpoint import load_checkpoint, newest_checkpoint, stored_policy
from jsrl.core.command_folder import folders_of_checkpoint
from jsrl.core.conversions import show_range
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import Policy, SamplingPolicy, SavablePolicy, SeesImages
from jsrl.core.ranges import one_of
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.guides.base import combine
from jsrl.guides.options import FileOptions, GuideInputs, ViewOptions, guides
from jsrl.guides.view import POLICY_RANGE, ActionRange, GuideView
from jsrl.networks.saved_policies import build_policy


class NetworkGuide:
    """Frozen networks of S seeds, one for each, in one batched forward.

    The forward always has the same shape ``[S, E, O']``: rows outside of the mask go in as 0, so
    that what is in them (NaN, say) reaches nothing, and a seed's actions do not depend on which
    rows of other seeds are acted for.

    Args:
        policy: a policy for S seeds; it is used as it is, see ``from_policy`` for a copy.
        view: the guide's observations and actions.
        spec: the environment's.
        sample: sample actions instead of taking the mode; for a ``SamplingPolicy`` only.
        name: what messages call this guide.
        answers_in: the range in which it answers, where the view does not say.

    Raises:
        UserError: if the view does not fit the environment, or ``sample`` the policy.
    """

    def __init__(
        self,
        policy: Policy,
        view: GuideView,
        spec: EnvSpec,
        *,
        sample: bool,
        name: str,
        answers_in: ActionRange = POLICY_RANGE,
    ) -> None:
        if sample and not isinstance(policy, SamplingPolicy):
            raise UserError(
                f"guide.sample=true: guide {name} is a {type(policy).__name__}, which has no "
                "sample(obs, streams, name, where) and can only be asked for its mode; set "
                "guide.sample=false"
            )
        self.policy = policy
        self.view = view.bind(spec, answers_in)
        self.sample = sample
        self.name = name
        self.stateful = False
        self.actions = spec.actions
        self.fingerprint = combine(*_content(policy), self.view.values, sample)

    @classmethod
    def from_policy(
        cls, policy: Policy, view: GuideView, spec: EnvSpec, *, sample: bool = False
    ) -> "NetworkGuide":
        """A frozen copy of ``policy``, for S seeds: later training of the original leaves it be.

        Raises:
            UserError: see ``NetworkGuide``.
        """
        frozen: Policy
        if isinstance(policy, SavablePolicy):
            # Parameters may be views of a learner's flat storage; this copies them alone.
            frozen = policy.select(range(policy.num_seeds))
        else:
            frozen = copy.deepcopy(policy)
        if isinstance(frozen, nn.Module):
            frozen.requires_grad_(False).eval()  # dropout off when acting
        return cls(frozen, view, spec, sample=sample, name="policy")

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        seeds: Sequence[int],
        guide_seed: int | None,
        *,
        view: GuideView,
        spec: EnvSpec,
        which: str = "exploration",
        sample: bool = False,
        device: torch.device | None = None,
    ) -> "NetworkGuide":
        """The policies of a run directory or checkpoint file.

        A class of this package runs no code from it; see ``jsrl.networks.saved_policies`` for a
        class of the user's own.

        Args:
            path: a run directory, whose newest valid checkpoint is used, or a checkpoint.
            seeds: the S seeds to guide.
            guide_seed: the one seed of the checkpoint that guides all of them; None matches them
                seed by seed.
            view: the guide's observations and actions.
            spec: the environment's.
            which: ``exploration`` for what the run learnt, ``guide`` for the guide it had.
            sample: sample actions instead of taking the mode.
            device: where the networks go; the CPU by default.

        Raises:
            UserError: if the file is missing, truncated or foreign, lacks a seed or the policy, or
                was trained with other observation or action sizes.
        """
        path = newest_checkpoint(path)
        content = load_checkpoint(path)
        wanted = list(seeds) if guide_seed is None else [guide_seed] * len(seeds)
        missing = sorted(set(wanted) - set(content["seeds"]))
        if missing:
            raise UserError(
                f"guide.path={str(path)!r} has no seed {', '.join(map(str, missing))}; it has "
                f"{content['seeds']}; choose one for all by guide.seed"
            )
        stored = stored_policy(content, which, f"guide.which={which!r}: {path}")
        indices = [content["seeds"].index(seed) for seed in wanted]
        policy = _rebuild(path, stored, indices)
        _check_sizes(path, policy, content["environment"], view, spec)
        if device is not None:
            policy = policy.to(device)
        return cls(
            policy,
            view,
            spec,
            sample=sample,
            name=str(path),
            answers_in=_trained_range(content["environment"], spec),
        )

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Shaped[Tensor, "S E *A"]:
        """Actions for the rows in ``mask``; see ``Guide.act``."""
        expected = (*obs.leading, *self.actions.chosen_shape)
        if not mask.any():
            kind = torch.float32 if isinstance(self.actions, BoxActions) else torch.int64
            return torch.zeros(expected, dtype=kind, device=obs.device)
        mask = mask.to(obs.device)
        observed = self.view.observe(obs.only(mask))
        if streams is None or not self.sample:
            answers = self.policy.act(observed, None)
        else:
            answers = self._sampled(observed, streams, mask.any(-1).tolist())
        if answers.shape != expected:
            raise UserError(
                f"guide {self.name} returned actions of shape {tuple(answers.shape)}; "
                f"expected {tuple(expected)}"
            )
        return self.view.respond(answers, self.name, mask)

    def _sampled(self, observed: Observation, streams: Streams, where: list[bool]) -> Tensor:
        """Sampled answers ``[S, E, A]``; seeds not in ``where`` draw no noise."""
        assert isinstance(self.policy, SamplingPolicy)  # __init__ has seen to it
        return self.policy.sample(observed, streams, "guide_noise", where)

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin: nothing to do without memory."""


def _check_sizes(
    path: Path, policy: SavablePolicy, trained: dict[str, Any], view: GuideView, spec: EnvSpec
) -> None:
    """See that what the policy was trained on is what it would be given.

    Its own sizes count: a run's guide may have seen less of the environment than the run did.
    """
    size = view.bind(spec).size
    if policy.observation_size != size:
        raise UserError(
            f"guide.path={str(path)!r} was trained on {policy.observation_size} observation "
            f"columns; {spec.id} gives it {size}; select those that it knows by guide.observation"
        )
    seen = policy.images if isinstance(policy, SeesImages) else {}
    given = view.bind(spec).images
    if {name: tuple(shape) for name, shape in seen.items()} != given:
        raise UserError(
            f"guide.path={str(path)!r} was trained on the images {dict(seen)}; {spec.id} gives it "
            f"{given} (channels, height, width); choose a guide for these, or name what it knows "
            "by guide.observation"
        )
    chooses = trained.get("actions", {}).get("kind") == "discrete"
    if chooses == isinstance(spec.actions, BoxActions):
        kinds = "chooses" if chooses else "gives real numbers"
        raise UserError(
            f"guide.path={str(path)!r} {kinds}, which {spec.id} does not take; choose a guide that "
            "was trained with such actions"
        )
    if policy.action_size != spec.actions.size:
        raise UserError(
            f"guide.path={str(path)!r} has {policy.action_size} actions; {spec.id} takes "
            f"{spec.actions.size}"
        )
    layout = [tuple(part) for part in trained["layout"]]
    if view.observation is None and layout != list(spec.observation.layout):
        raise UserError(
            f"guide.path={str(path)!r} was trained on the observation parts {layout}; {spec.id} "
            f"has {list(spec.observation.layout)}; name those to give it by guide.observation"
        )


def _trained_range(trained: dict[str, Any], spec: EnvSpec) -> ActionRange:
    """[-1, 1]; where it was trained with other bounds, its actions are scaled, and that is told."""
    low, high = trained.get("action_low"), trained.get("action_high")
    if not isinstance(spec.actions, BoxActions):
        return POLICY_RANGE
    if low is None or high is None or (*low, *high) == (*spec.box.low, *spec.box.high):
        return POLICY_RANGE
    shown = show_range(low, high)
    source = f"a policy trained in {trained.get('id')}, where that was {shown}"
    return replace(POLICY_RANGE, source=source)


def _rebuild(path: Path, stored: dict[str, Any], indices: Sequence[int]) -> SavablePolicy:
    """The stored policies at ``indices``, stacked in that order."""
    try:
        folders = folders_of_checkpoint(path)
        return build_policy(stored["description"], stored["state"], folders).select(indices)
    except UserError as error:
        raise UserError(f"guide.path={str(path)!r}: {error}") from error
    except (KeyError, IndexError) as error:
        raise UserError(
            f"guide.path={str(path)!r}: its policy cannot be rebuilt ({type(error).__name__}: "
            f"{error}); was it written by another version of jsrl?"
        ) from error


def _content(policy: Policy) -> list[Any]:
    """What makes a policy this one and no other: its description and its weights."""
    own: Any = policy.describe() if isinstance(policy, SavablePolicy) else type(policy).__qualname__
    parts: list[Any] = [own]
    if isinstance(policy, nn.Module):
        for name, value in sorted(policy.state_dict().items()):
            parts += [name, value]
    return parts


@dataclass
class OfflineOptions(ViewOptions):
    """Of ``guide=offline``: the learner, pre-trained on the dataset."""

    # Whether it acts by samples instead of by the mode.
    sample: bool = False

    pretrained = True
    has_networks = True
    neutral = (("sample", False),)


@dataclass
class RunOptions(FileOptions):
    """Of ``guide=run``: a policy of another run."""

    # One of its seeds for all seeds; null matches them one to one.
    seed: int | None = None
    # Its exploration-policy or its own guide: exploration or guide.
    which: str = "exploration"
    # Whether it acts by samples instead of by the mode.
    sample: bool = False

    WANTED = "a run directory or checkpoint"
    has_networks = True
    neutral = (("sample", False),)

    def check(self) -> None:
        super().check()
        one_of("guide.which", self.which, ("exploration", "guide"))


@guides.register("offline", OfflineOptions)
def make_offline(options: OfflineOptions, inputs: GuideInputs) -> None:
    """Made by the run itself, once the learner is pre-trained."""


@guides.register("run", RunOptions)
def make_from_run(options: RunOptions, inputs: GuideInputs) -> NetworkGuide:
    """The policies of a run directory or checkpoint."""
    options.check()
    return NetworkGuide.from_checkpoint(
        Path(str(options.path)),
        inputs.seeds,
        options.seed,
        view=options.view(),
        spec=inputs.spec,
        which=options.which,
        sample=options.sample,
        device=inputs.device,
    )
