"""Observers: the messages that each of them could read, and what those amount to."""
