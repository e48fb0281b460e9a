"""Replays as jobs: what is asked for, what it would be, the copy, and the job's row in PostgreSQL."""
