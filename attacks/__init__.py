"""Audits of what each observer of a federation really saw.

So far only the statistics exist: scores, intervals, ROC, epsilon bounds, policy and verdicts. The
attacks that feed them (inversion, head leakage, shadow models) and `securefed audit` do not, so
nothing here has been run against a federation yet.
"""
