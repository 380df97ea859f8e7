"""One login: lock-out, the authority's answer, and the audit line. Called from worker threads.

A user is locked after 5 failures, an address (which many users may share) after 30. The audit log has a line for every login that was let
in, for every refused one, and for every lock that begins; attempts while locked are answered without a look at the password and leave no
line, so that nobody fills the disk with them.
"""

import ipaddress

from sam_adapters.audit import AuditLog, present_caller
from sam_adapters.errors import AuthorityError, CredentialsError, LockedOutError
from sam_adapters.login.authority import Authority
from sam_adapters.login.lockout import Lockout

USER_FAILURES, ADDRESS_FAILURES = 5, 30


def network_of(address: str) -> str:
    """What is locked for an address: an IPv4 address itself, of IPv6 the /64 network, all of whose addresses one machine may use."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4 or found.ipv4_mapped is not None:
        return str(found if found.version == 4 else found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))


class LoginDesk:
    """Logins of one server."""

    def __init__(self, authority: Authority, log: AuditLog) -> None:
        self.authority = authority
        self._log = log
        self._users = Lockout(free=USER_FAILURES)
        self._addresses = Lockout(free=ADDRESS_FAILURES)

    def token(self, username: str, password: str) -> dict[str, object]:
        """A token for a name and a password.

        Raises:
            CredentialsError, AuthorityError: as the authority says.
            LockedOutError: this user, or this address, has failed too often.
            AuditError: the audit log took no line; nobody is let in unseen.
        """
        name, address = username.strip().lower()[:256], network_of(present_caller().address)
        seconds = max(self._users.wait(name), self._addresses.wait(address))
        if seconds > 0:
            raise LockedOutError(seconds)
        self._users.begin(name)
        self._addresses.begin(address)
        try:
            reply = self.authority.token(username, password)
        except AuthorityError:
            self._users.excused(name)
            self._addresses.excused(address)
            raise
        except CredentialsError:
            self._refused(name, address)
            raise
        self._users.succeeded(name)
        self._addresses.excused(address)
        self._log.record("login", who=self.authority.known_name(username))
        return reply

    def _refused(self, name: str, address: str) -> None:
        known = self.authority.known_name(name)
        self._log.record("login_refused", who=known)
        for what, seconds in (("user", self._users.wait(name)), ("address", self._addresses.wait(address))):
            if seconds > 0:
                self._log.record("login_locked", who=known, locked=what, seconds=round(seconds))
