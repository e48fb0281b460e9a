"""Questions to the analytics table."""
