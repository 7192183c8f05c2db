"""Whose patient is it? Which hospital trained on somebody who is known to have taken part."""

NAME = "source inference"
