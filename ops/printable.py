"""What others wrote, fit for a terminal: whoever may post could write what moves its cursor."""


def printable(text: str) -> str:
    """Return the text with every control character but line breaks and tabs as an escape."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text)
