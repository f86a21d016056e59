"""Losses: values and gradients worked out by hand."""

import math

import pytest
import torch

from jsrl.learners.losses import (
    advantage_weights,
    bootstrapped_target,
    expectile_loss,
    squared_td_error,
    weighted_log_likelihood_loss,
)


def gradient(loss, *inputs):
    return torch.autograd.grad(loss.sum(), inputs)


def test_the_expectile_loss_weighs_positive_differences_by_tau():
    difference = torch.tensor([[2.0, -1.0], [0.5, 0.0]], requires_grad=True)
    loss = expectile_loss(difference, 0.9)
    # (0.9·4 + 0.1·1)/2 and (0.9·0.25 + 0)/2.
    torch.testing.assert_close(loss, torch.tensor([1.85, 0.1125]))
    # 2·weight·difference/B.
    (slope,) = gradient(loss, difference)
    torch.testing.assert_close(slope, torch.tensor([[1.8, -0.1], [0.45, 0.0]]))


def test_an_expectile_of_one_half_is_half_the_squared_error():
    difference = torch.tensor([[3.0, -3.0]])
    torch.testing.assert_close(expectile_loss(difference, 0.5), torch.tensor([4.5]))


def test_advantage_weights_are_exponential_and_clipped():
    advantage = torch.tensor([[0.0, 0.1, 1.0, -0.5]], requires_grad=True)
    weights = advantage_weights(advantage, 10.0, 100.0)
    expected = torch.tensor([[1.0, math.e, 100.0, math.exp(-5)]])
    torch.testing.assert_close(weights, expected)
    # β·exp(β·A) inside, 0 where clipped.
    (slope,) = gradient(weights, advantage)
    expected = torch.tensor([[10.0, 10 * math.e, 0.0, 10 * math.exp(-5)]])
    torch.testing.assert_close(slope, expected)


def test_advantages_that_overflow_are_clipped_too():
    assert advantage_weights(torch.tensor([[1e4]]), 10.0, 100.0).item() == 100.0


def test_the_weighted_log_likelihood_is_a_mean_within_each_seed():
    log_prob = torch.tensor([[-1.0, -2.0], [1.0, 0.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 3.0], [2.0, 5.0]])
    loss = weighted_log_likelihood_loss(log_prob, weights)
    torch.testing.assert_close(loss, torch.tensor([3.5, -1.0]))
    (slope,) = gradient(loss, log_prob)
    torch.testing.assert_close(slope, -weights / 2)


def test_a_termination_ends_the_bootstrap_and_nothing_else_does():
    # γ of one step is 0.9; of three steps that no termination ends, 0.729.
    reward, discount = torch.tensor([[1.0, 1.0, 2.0]]), torch.tensor([[0.9, 0.0, 0.729]])
    target = bootstrapped_target(reward, discount, torch.tensor([[10.0, 10.0, 10.0]]))
    torch.testing.assert_close(target, torch.tensor([[10.0, 1.0, 9.29]]))


@pytest.mark.parametrize(("reduction", "share"), [("sum", 1.0), ("mean", 0.5)])
def test_the_td_error_of_two_critics_is_their_sum_or_mean(reduction, share):
    q = torch.tensor([[[1.0, 2.0], [0.0, 4.0]]], requires_grad=True)
    target = torch.tensor([[3.0, 2.0]])
    loss = squared_td_error(q, target, reduction)
    # Critic 1: (4 + 0)/2; critic 2: (9 + 4)/2.
    torch.testing.assert_close(loss, torch.tensor([8.5 * share]))
    (slope,) = gradient(loss, q)
    torch.testing.assert_close(slope, share * torch.tensor([[[-2.0, 0.0], [-3.0, 2.0]]]))


def test_losses_do_not_mix_seeds():
    q = torch.randn(3, 2, 4, requires_grad=True)
    (slope,) = gradient(squared_td_error(q, torch.zeros(3, 4), "sum")[1], q)
    assert slope[0].abs().sum() == 0
    assert slope[2].abs().sum() == 0
    assert slope[1].abs().sum() > 0
