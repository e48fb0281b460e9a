"""Dead letters: what waits in a consumer's dead-letter topic, seen, redriven or purged."""
