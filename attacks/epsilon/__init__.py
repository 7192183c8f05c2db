"""Canary bounds on epsilon: what the run's own noise provably let through."""

NAME = "epsilon"
