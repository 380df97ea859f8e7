"""Text blocks that survive mail and clipboards: base64 between two marker lines, whatever stands around them."""

import base64
import binascii
import re
import textwrap

from fed_backend.errors import EnrolmentError

MAX_TEXT = 400_000
"""Longest text that is looked at, in characters."""
_WIDTH = 64


def wrap(kind: str, document: bytes) -> str:
    """`document` as a block of kind `kind`, e.g. `SITE REQUEST`, ending with a newline."""
    lines = textwrap.wrap(base64.b64encode(document).decode("ascii"), _WIDTH)
    return "\n".join([_begin(kind), *lines, _end(kind), ""])


def unwrap(kind: str, text: str) -> bytes:
    """The document of the one block of kind `kind` in `text`; quote marks, spaces and text around it do not matter.

    Raises:
        EnrolmentError: there is no such block, more than one, or it is damaged or too long.
    """
    if len(text) > MAX_TEXT:
        raise EnrolmentError(f"The text has {len(text)} characters, expected at most {MAX_TEXT}: give only the file that was sent.")
    blocks = re.findall(re.escape(_begin(kind)) + r"(.*?)" + re.escape(_end(kind)), text, re.DOTALL)
    if len(blocks) != 1:
        raise EnrolmentError(
            f"The text holds {len(blocks)} blocks of kind {kind}, expected one from the line {_begin(kind)!r} to the line {_end(kind)!r}: "
            "copy it whole, with both lines."
        )
    try:
        return base64.b64decode(re.sub(r"[\s>]", "", blocks[0]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnrolmentError(f"The block of kind {kind} is damaged ({error}): ask for it again, as an attached file.") from error


def _begin(kind: str) -> str:
    return f"-----BEGIN FEDSCA {kind}-----"


def _end(kind: str) -> str:
    return f"-----END FEDSCA {kind}-----"
