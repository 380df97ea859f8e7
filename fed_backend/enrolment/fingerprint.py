"""Fingerprints short enough to read over the phone: the first 128 bits of SHA-256, as eight groups of four hexadecimal digits.

Finding another key with the fingerprint of a given one takes about 2^128 attempts.
"""

import hashlib
import hmac

DIGITS = 32


def fingerprint(data: bytes) -> str:
    """Fingerprint of `data`, e.g. `3F2A 91C4 …` (39 characters)."""
    digits = hashlib.sha256(data).hexdigest()[:DIGITS].upper()
    return " ".join(digits[start : start + 4] for start in range(0, DIGITS, 4))


def same_fingerprint(given: str, expected: str) -> bool:
    """Whether two fingerprints are the same; case, spaces, colons and hyphens do not matter. A shortened one is never the same."""
    return hmac.compare_digest(_digits(given), _digits(expected)) and len(_digits(given)) == DIGITS


def _digits(text: str) -> bytes:
    return "".join(character for character in text if character not in " :-\t\n\r").upper().encode()
