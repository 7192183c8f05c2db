"""Rounds between one server and the hospitals: who is asked, what travels, how it is summed."""
