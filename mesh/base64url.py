"""Base64url without padding (RFC 4648 section 5), with exactly one accepted spelling for each value."""

import base64
import binascii


def encode(data: bytes) -> str:
    """Return the unpadded base64url text of `data`."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes of unpadded base64url `text`.

    Raises ValueError for padding, foreign characters, and non-zero trailing bits: Python's decoder takes all three,
    and would so give one receipt several spellings.
    """
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("not base64url") from error
    if encode(data) != text:
        raise ValueError("not canonical base64url")
    return data
