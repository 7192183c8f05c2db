"""Audits of what each observer of a federation really saw. Empty until the first attack lands."""
