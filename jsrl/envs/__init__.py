"""Environments: how they are made, and what is known of a family of them."""
