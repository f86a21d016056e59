"""Tests that tell whether episodes differ from a reference."""
