"""Reconciliation: what Blu has, beside what storage holds."""
