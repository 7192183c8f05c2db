"""Secure aggregation: many clients add their vectors, the server learns only the sum."""
