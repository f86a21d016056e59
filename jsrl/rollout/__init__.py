"""Stepping environments: collecting, evaluating, storing transitions."""
