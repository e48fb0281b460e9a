"""The quarantine: what is in it, what it would become, and how it comes out of it."""
