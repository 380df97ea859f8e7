"""From what a person types to the address of a server."""

from __future__ import annotations

from urllib.parse import urlsplit

from FedSCALib.errors import AddressError
from FedSCALib.translate import tr

DEFAULT = "http://127.0.0.1:8000"


def normalise(text: str) -> str:
    """`http://host:port` without a trailing slash; `http://` is added where no scheme is given.

    Raises:
        AddressError: another scheme, no host, a port that is none, or a user name or password in the address.
    """
    typed = text.strip().strip("\u200b")
    if not typed:
        raise AddressError(tr("Type the server's address, for example {example}.").format(example=DEFAULT))
    if "://" not in typed:
        typed = "http://" + typed
    try:
        parts = urlsplit(typed)
        port = parts.port
    except ValueError as error:
        raise AddressError(tr("{text} is not an address: the port is a number from 1 to 65535.").format(text=text.strip())) from error
    if parts.scheme.lower() not in ("http", "https"):
        raise AddressError(tr("The address begins with {scheme}://, expected http:// or https://.").format(scheme=parts.scheme))
    if not parts.hostname or any(character.isspace() for character in parts.netloc) or port == 0:
        raise AddressError(tr("{text} is not an address, expected for example {example}.").format(text=text.strip(), example=DEFAULT))
    if parts.username is not None or parts.password is not None:
        raise AddressError(tr("Leave user name and password out of the address: they are asked for."))
    if parts.query or parts.fragment:
        raise AddressError(tr("The address ends after the port: leave out what begins with ? or #."))
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme.lower()}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
