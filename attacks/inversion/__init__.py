"""Gradient inversion: images from updates, by search."""

NAME = "inversion"
