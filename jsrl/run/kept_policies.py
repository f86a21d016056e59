"""Which policies of a run its checkpoints keep, and why they cannot keep the others."""

from collections.abc import Mapping
from typing import Any

from jsrl.core.observed_share import ALONE
from jsrl.core.protocols import Policy, SavablePolicy
from jsrl.networks.saved_policies import describe_policy, unsavable_because


def kept(networks: Mapping[str, Policy], *, observes_share: bool) -> dict[str, Any]:
    """Describe the policies that can be kept, with their weights, by their names."""
    return {
        name: {
            "description": describe_policy(policy, _fixed(name, observes_share)),
            "state": policy.state_dict(),
        }
        for name, policy in networks.items()
        if isinstance(policy, SavablePolicy)
        if unsavable_because(policy, _fixed(name, observes_share)) is None
    }


def unsaved(networks: Mapping[str, Policy], *, observes_share: bool) -> dict[str, str]:
    """Give the reasons why policies cannot be kept, by the policies' names."""
    reasons = {
        name: unsavable_because(policy, _fixed(name, observes_share))
        for name, policy in networks.items()
    }
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _fixed(name: str, observes_share: bool) -> tuple[float, ...]:
    """What a policy that is deployed does not observe: then the explorer acts alone."""
    return (ALONE,) if name == "exploration" and observes_share else ()
