"""Audits of what each observer of a federation really saw; `securefed audit` runs them.

`suite` lists the steps, one folder holds each attack family (its `attack.py` first), `statistics`
what they share, and `policy` and `verdicts` turn findings into an answer.
"""
