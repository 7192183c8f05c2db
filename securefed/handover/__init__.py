"""A released model in other programs' formats, with its papers."""
