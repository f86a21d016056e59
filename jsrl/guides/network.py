"""Guides that are policies of this package: trained a moment ago, or from a checkpoint."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jsrl.checkpoint import load_checkpoint, newest_checkpoint
from jsrl.errors import UserError
from jsrl.guides.base import GuideView, combine
from jsrl.networks import GaussianPolicy, build_policy
from jsrl.seeding import Streams
from jsrl.types import EnvSpec, Observation, Policy


class NetworkGuide:
    """Frozen networks of S seeds, one for each, in one batched forward.

    The forward always has the same shape ``[S, E, O']``: rows outside of the mask go in as 0, so
    that what is in them (NaN, say) reaches nothing, and a seed's actions do not depend on which
    rows of other seeds are acted for.

    Args:
        policy: a policy for S seeds; it is used as it is, see ``from_policy`` for a copy.
        view: the guide's observations and actions.
        spec: the environment's.
        sample: sample actions instead of taking the mode; for ``GaussianPolicy`` only.
        name: what messages call this guide.

    Raises:
        UserError: if the view does not fit the environment, or ``sample`` the policy.
    """

    def __init__(
        self, policy: Policy, view: GuideView, spec: EnvSpec, *, sample: bool, name: str
    ) -> None:
        if sample and not isinstance(policy, GaussianPolicy):
            raise UserError(
                f"guide.sample=true: guide {name} is a {type(policy).__name__}, which jsrl can "
                "only ask for its mode; set guide.sample=false"
            )
        self.policy = policy
        self.view = view.bind(spec)
        self.sample = sample
        self.name = name
        self.stateful = False
        self.action_size = spec.action_size
        self.fingerprint = combine(*_content(policy), view, sample)

    @classmethod
    def from_policy(
        cls, policy: Policy, view: GuideView, spec: EnvSpec, *, sample: bool = False
    ) -> "NetworkGuide":
        """A frozen copy of ``policy``, for S seeds: later training of the original leaves it be.

        Raises:
            UserError: see ``NetworkGuide``.
        """
        frozen: Policy
        if isinstance(policy, GaussianPolicy):
            # Parameters may be views of a learner's flat storage; this copies them alone.
            frozen = type(policy)(**policy.arguments).to(policy.observation_mean.device)
            frozen.load_state_dict(policy.state_dict())
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
        """The policies of a run directory or checkpoint file. Runs no code from it.

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
        if which not in content["policies"]:
            raise UserError(
                f"guide.which={which!r}: {path} holds {sorted(content['policies'])}; choose one"
            )
        indices = [content["seeds"].index(seed) for seed in wanted]
        policy = _rebuild(path, content["policies"][which], indices)
        _check_sizes(path, policy, content["environment"], view, spec)
        if device is not None:
            policy = policy.to(device)
        return cls(policy, view, spec, sample=sample, name=str(path))

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Float[Tensor, "S E A"]:
        """Actions in [-1, 1] for the rows in ``mask``; see ``Guide.act``."""
        if not mask.any():
            return torch.zeros(*obs.shape[:2], self.action_size, device=obs.device)
        mask = mask.to(obs.device)
        observed = self.view.observe(torch.where(mask.unsqueeze(-1), obs, 0.0))
        if streams is None or not self.sample:
            answers = self.policy.act(observed, None)
        else:
            answers = self._sampled(observed, streams, mask.any(-1).tolist())
        expected = (*obs.shape[:2], self.action_size)
        if answers.shape != expected:
            raise UserError(
                f"guide {self.name} returned actions of shape {tuple(answers.shape)}; "
                f"expected {tuple(expected)}"
            )
        return self.view.respond(answers, self.name, mask)

    @torch.inference_mode()
    def _sampled(self, observed: Tensor, streams: Streams, where: list[bool]) -> Tensor:
        """Sampled answers ``[S, E, A]``; seeds not in ``where`` draw no noise."""
        assert isinstance(self.policy, GaussianPolicy)  # __init__ has seen to it
        mean, log_std = self.policy(observed)
        noise = streams.normal("guide_noise", mean.shape[1:], where=where).to(mean.device)
        clip = self.policy.action_clip
        answers: Tensor = (mean + log_std.exp() * noise).clamp(-clip, clip)
        return answers

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin: nothing to do without memory."""


def _check_sizes(
    path: Path, policy: GaussianPolicy, trained: dict[str, Any], view: GuideView, spec: EnvSpec
) -> None:
    """See that what the policy was trained on is what it would be given.

    Its own sizes count: a run's guide may have seen less of the environment than the run did.
    """
    size, own = view.bind(spec).size, policy.arguments
    if own["observation_size"] != size:
        raise UserError(
            f"guide.path={str(path)!r} was trained on {own['observation_size']} observation "
            f"columns; {spec.id} gives it {size}; select those that it knows by guide.observation"
        )
    if own["action_size"] != spec.action_size:
        raise UserError(
            f"guide.path={str(path)!r} has {own['action_size']} actions; {spec.id} takes "
            f"{spec.action_size}"
        )
    layout = [tuple(part) for part in trained["layout"]]
    if view.observation is None and layout != list(spec.layout):
        raise UserError(
            f"guide.path={str(path)!r} was trained on the observation parts {layout}; {spec.id} "
            f"has {list(spec.layout)}; name those to give it by guide.observation"
        )


def _rebuild(path: Path, stored: dict[str, Any], indices: Sequence[int]) -> GaussianPolicy:
    """The stored policies at ``indices``, stacked in that order."""
    try:
        everyone = build_policy(stored["description"], stored["state"])
        arguments = {**stored["description"]["arguments"], "num_seeds": len(indices)}
        of_a_seed = {name for name, _ in everyone.named_parameters()}
        chosen = {
            name: value[list(indices)] if name in of_a_seed else value
            for name, value in everyone.state_dict().items()
        }
        return build_policy({**stored["description"], "arguments": arguments}, chosen)
    except (RuntimeError, TypeError, KeyError, IndexError) as error:
        raise UserError(
            f"guide.path={str(path)!r}: its policy cannot be rebuilt ({_first_line(error)}); was "
            "it written by another version of jsrl?"
        ) from error


def _content(policy: Policy) -> list[Any]:
    """What makes a policy this one and no other: its description and its weights."""
    describe = getattr(policy, "describe", None)
    parts: list[Any] = [describe() if callable(describe) else type(policy).__qualname__]
    if isinstance(policy, nn.Module):
        for name, value in sorted(policy.state_dict().items()):
            parts += [name, value]
    return parts


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__
