"""What came, what became of it, and whether that adds up."""
