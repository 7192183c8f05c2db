"""Intervals, ROC curves and the checks on what goes into them: no torch, no attack."""
