"""Erasing one contact everywhere: what `dial-results erase` does."""
