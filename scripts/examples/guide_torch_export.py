"""Any module of PyTorch as a guide, exported by ``torch.export``.

    python scripts/examples/guide_torch_export.py policy.pt2
    jsrl train env=gymnasium env.id=Pendulum-v1 env.success_key=null curriculum.metric=return \
        learner=sac dataset=none offline.updates=0 guide=torch_export guide.path=policy.pt2
"""

import sys

import torch


class WithTheSwing(torch.nn.Module):
    """A torque in [-2, 2] that adds to the swing; a row is cos, sin and velocity of the angle."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations[:, 2:3].sign() * 2.0


def save_policy(path: str) -> None:
    """Export the policy for any number of rows."""
    rows = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(WithTheSwing(), (torch.zeros(2, 3),), dynamic_shapes=rows)
    torch.export.save(program, path)


if __name__ == "__main__":
    save_policy(sys.argv[1])
