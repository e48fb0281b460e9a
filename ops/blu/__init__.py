"""Blu, as far as its public pages tell: what it posts, how it retries, and what it was promised."""
