"""Attacks on functions whose answer is known: linear ones, and small networks."""

import math

import numpy as np
import pytest
import torch
from specs import vector
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.monitor.studies.attack_adaptive import Activations, half_widths, keeps_statistics
from jsrl.monitor.studies.attack_columns import named_columns, tied_columns, untied_line
from jsrl.monitor.studies.attack_goals import another_choice, largest_distance
from jsrl.monitor.studies.attacks import Ball, attacks

WEIGHT = torch.tensor([2.0, -1.0, 0.5, -3.0])
SPREAD = torch.tensor([1.0, 2.0, 0.5, 4.0])
ROWS = torch.tensor([[0.0, 1.0, 2.0, 3.0], [5.0, -1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
BALL = Ball.of(0.1 * SPREAD)


def linear(perturbed, clean):
    return (perturbed * WEIGHT).sum(-1)


def streams(name="test", seed=0):
    return Streams([seed], (name,))


def made(kind, objective, ball=BALL, rows=ROWS, seed=0, **options):
    chosen = attacks[kind].options(kind, **options)
    chosen.check()
    attack = attacks.build(chosen)
    attack.fit(objective, rows, ball, streams("fit", seed))
    return attack.perturbation(objective, rows, ball, streams("use", seed))


def test_every_kind_is_registered():
    assert set(attacks.names()) == {"fgsm", "noise", "pgd", "universal"}


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "universal"])
def test_on_a_linear_function_the_answer_is_the_corner_of_its_signs(kind):
    """The maximum of w·δ over |δ| ≤ r is Σ r|w|, at r·sign(w)."""
    expected = (0.1 * SPREAD * WEIGHT.sign()).expand(3, -1)
    torch.testing.assert_close(made(kind, linear), expected)


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_the_largest_change_of_a_linear_answer_is_known_up_to_its_sign(kind):
    objective = largest_distance(lambda rows: (rows * WEIGHT).sum(-1, keepdim=True))
    moved = (made(kind, objective) * WEIGHT).sum(-1).abs()
    torch.testing.assert_close(moved, torch.full((3,), float((0.1 * SPREAD * WEIGHT.abs()).sum())))


def network(outputs=2):
    layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, outputs))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layers.requires_grad_(False)


@pytest.mark.parametrize("kind", attacks.names())
def test_it_stays_in_the_ball_and_repeats_itself(kind):
    objective = largest_distance(network())
    moved = made(kind, objective)
    assert (moved.abs() <= BALL.radii + 1e-7).all()
    assert torch.equal(moved, made(kind, objective))
    assert moved.abs().max() > 0


def test_many_steps_are_no_worse_than_one_and_an_attack_is_better_than_noise():
    objective = largest_distance(network())

    def reached(kind, **options):
        return objective(ROWS + made(kind, objective, **options), ROWS)

    one, many, noise = reached("fgsm"), reached("pgd", steps=30), reached("noise")
    assert (many >= one - 1e-6).all()
    assert (many > noise).all()


def test_pgd_keeps_the_best_place_on_its_way():
    """Steps of twice the ball overshoot a peak inside of it, to which the start may be nearer."""

    def peak(perturbed, clean):
        return -(perturbed - clean).square().sum(-1)

    start = (2 * streams("use").uniform("start", (3, 4))[0] - 1) * BALL.radii
    moved = made("pgd", peak, steps=1, reach=2.0)
    assert (peak(ROWS + moved, ROWS) >= peak(ROWS + start, ROWS) - 1e-7).all()


def test_universal_is_one_vector_and_the_better_one_for_all_together():
    objective = largest_distance(network())
    moved = made("universal", objective)
    assert torch.equal(moved, moved[:1].expand(3, -1))
    noise = made("noise", objective)[:1].expand(3, -1)
    assert objective(ROWS + moved, ROWS).mean() > objective(ROWS + noise, ROWS).mean()


@pytest.mark.parametrize("kind", attacks.names())
def test_tied_columns_move_alike_and_frozen_ones_do_not(kind):
    ball = Ball.of(0.1 * SPREAD, tied=[[0, 3]], frozen=[1])
    moved = made(kind, largest_distance(network()), ball)
    assert torch.equal(moved[:, 0], moved[:, 3])
    assert (moved[:, 1] == 0).all()
    # The smaller of both radii holds for both.
    assert moved[:, [0, 3]].abs().max() <= 0.1 + 1e-7
    assert moved[:, 2].abs().max() > 0


def test_what_is_tied_goes_by_the_sum_of_its_gradients():
    """With columns 0 and 3 tied, w·δ = (2 - 3)·δ₀ + …: both go down."""
    ball = Ball.of(0.1 * SPREAD, tied=[[0, 3]])
    torch.testing.assert_close(
        made("fgsm", linear, ball)[0], torch.tensor([-0.1, -0.2, 0.05, -0.1])
    )


def test_everything_may_be_frozen():
    ball = Ball.of(SPREAD, frozen=[0, 1, 2, 3])
    assert (made("pgd", linear, ball) == 0).all()


def test_another_choice_is_a_margin_that_is_positive_once_the_choice_changes():
    def logits(rows):
        return torch.stack([rows[:, 0], rows[:, 1], torch.zeros(len(rows))], -1)

    objective = another_choice(logits)
    clean = torch.tensor([[3.0, 1.0], [0.5, 1.0]])
    moved = torch.tensor([[2.0, 1.5], [1.5, 1.0]])
    assert objective(moved, clean).tolist() == [-0.5, 0.5]


def test_half_widths_are_of_the_means_of_episodes():
    values = torch.tensor([[0.0], [2.0], [3.0], [5.0], [7.0], [9.0]])
    episodes = np.array([4, 4, 7, 7, 9, 9])
    # Means 1, 4 and 8; quantiles 0.25 and 0.75 are 2.5 and 6.
    assert half_widths(values, episodes, 0.25).tolist() == [1.75]


def test_an_attacker_that_knows_the_monitor_moves_its_layers_less():
    layers = network()
    activations = Activations(layers, ["inputs", "1"], layers)
    before = activations(ROWS)
    torch.testing.assert_close(before, torch.tanh(layers[0](ROWS)))
    widths = torch.full((16,), 0.05)
    plain = largest_distance(layers)
    kept = keeps_statistics(plain, activations, widths, 100.0)

    def excess(objective):
        moved = activations(ROWS + made("pgd", objective, steps=40)) - before
        return float((moved.abs() / widths - 1).clamp(min=0).square().mean())

    assert excess(kept) < 0.5 * excess(plain)
    # Within the widths there is no penalty, and without an attack no objective.
    assert kept(ROWS, ROWS).tolist() == [0, 0, 0]


def test_the_penalty_is_the_mean_square_of_what_is_beyond_the_widths():
    def itself(rows):
        return rows

    kept = keeps_statistics(linear, itself, torch.tensor([1.0, 0.0, 0.5, 2.0]), 10.0)
    moved = ROWS + torch.tensor([3.0, 9.0, 0.5, -1.0])
    # Column 0 goes 3 widths, 2 beyond; column 1 has no width; 2 and 3 stay within.
    expected = linear(moved, ROWS) - 10 * 4.0 / 3
    torch.testing.assert_close(kept(moved, ROWS), expected)


LAYOUT = vector([("observation", 0, 3), ("goal", 3, 5)]).layout


def test_columns_have_names_numbers_and_parts():
    assert named_columns(["goal", 0, "observation[2]"], LAYOUT, "attack.frozen") == [3, 4, 0, 2]
    assert tied_columns([[0, "goal[1]"]], LAYOUT) == [[0, 4]]


def test_equal_columns_that_are_not_tied_are_told():
    rows = np.array([[1, 2, 3, 1, 0], [4, 5, 6, 4, 0]], np.float32)
    line = untied_line(rows, [], [], LAYOUT)
    assert line is not None
    assert "observation[0] and goal[0]" in line
    assert "attack.tied=[[0,3]]" in line
    assert untied_line(rows, [[0, 3]], [], LAYOUT) is None
    assert untied_line(rows, [], [0, 3], LAYOUT) is None


@pytest.mark.parametrize(
    "mistake, said",
    [
        (lambda: named_columns(["gaol"], LAYOUT, "attack.frozen"), "did you mean goal?"),
        (lambda: named_columns([7], LAYOUT, "attack.frozen"), "has columns 0 to 4"),
        (lambda: tied_columns([0, 1], LAYOUT), "a list of groups, such as"),
        (lambda: Ball.of(SPREAD, [[0, 1], [1, 2]]), "has a column twice"),
        (lambda: Ball.of(SPREAD, [[0, 1]], [1]), "freeze all of them or none"),
        (lambda: made("pgd", linear, epsilons=[-0.1]), "attack.epsilons=[-0.1]"),
        (lambda: made("pgd", linear, epsilons=[math.nan]), "attack.epsilons=[nan]"),
        (lambda: made("pgd", linear, epsilons=[]), "one number or more"),
        (lambda: made("pgd", linear, steps=0), "attack.steps=0"),
        (lambda: made("pgd", linear, reach=0.0), "attack.reach=0.0"),
        (lambda: made("fgsm", linear, start=2.0), "attack.start=2.0"),
        (lambda: made("fgsm", linear, goal="money"), "choose one of action, lowest_q"),
        (lambda: made("fgsm", linear, units="miles"), "choose one of deviations, own"),
        (lambda: made("fgsm", linear, quantile=0.5), "attack.quantile=0.5"),
        (lambda: made("fgsm", linear, penalty=-1.0), "attack.penalty=-1.0"),
    ],
)
def test_a_mistake_is_told(mistake, said):
    with pytest.raises(UserError) as told:
        mistake()
    assert said in str(told.value)
