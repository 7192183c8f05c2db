"""Engines: how the bytes of a federation reach machines of their own."""
