"""The contract of the topic `dial-results`: what its records say, how they are written and read."""
