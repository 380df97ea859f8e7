"""Which addresses other machines cannot reach: one rule for the hospital's server and for the federation's. No torch."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host` can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
