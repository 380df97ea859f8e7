"""Connecting, logging in, noticing that the server is gone, and coming back. Main thread only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

from FedSCALib import address as addresses
from FedSCALib.client import Client
from FedSCALib.desk import Desk
from FedSCALib.errors import ConnectionProblem, FedSCAError, LoginNeeded
from FedSCALib.translate import tr

ClientFactory = Callable[[str, Optional[Path]], Client]
FIRST_WAIT = 1.0
LONGEST_WAIT = 15.0


class Connection:
    """Keeps `state.connection`.

    Args:
        make: a client for an address and a CA file.
        welcome: called whenever the server has answered after not being there, with whether this is a new connection.
        leave: called before the server is let go; True where it is for another one.
    """

    def __init__(self, desk: Desk, make: ClientFactory, welcome: Callable[[bool], None], leave: Callable[[bool], None]) -> None:
        self._desk = desk
        self._make = make
        self._welcome = welcome
        self._leave = leave
        self._wait = FIRST_WAIT
        self._fresh = True
        desk.lost.connect(self._gone)

    def connect(self, address: Optional[str] = None, ca_file: Optional[Any] = None) -> None:
        """Connect to an address (default: the one used last, with its CA file).

        The same address again keeps the case and sends what waits; at another one nothing of this server's may arrive.
        """
        desk = self._desk
        if address is None:
            address, ca_file = desk.preferences.get("address"), ca_file or desk.preferences.get("ca_file")
        try:
            chosen = addresses.normalise(address)
            authority = Path(ca_file) if ca_file else None
            client = self._make(chosen, authority)
        except FedSCAError as error:
            desk.notify("error", error.message)
            return
        desk.update(notice=None)
        if chosen != desk.state.address:
            self._leave(True)
            desk.let_go()
            desk.update(info=None, status=None, versions=None, cases=(), strategies=(), progress=None)
        desk.not_later("reconnect")
        desk.preferences.set("address", chosen)
        desk.preferences.set("ca_file", str(authority or ""))
        desk.client = client
        self._fresh, self._wait = True, FIRST_WAIT
        desk.update(connection="connecting", address=chosen, user="")
        self._ask()

    def test(self, address: str, ca_file: Optional[Any] = None) -> None:
        """Say whether a server answers there, without using it: no image is needed."""
        desk = self._desk
        try:
            client = self._make(addresses.normalise(address), Path(ca_file) if ca_file else None)
        except FedSCAError as error:
            desk.notify("error", error.message)
            return

        def work(cancelled: Any, _report: Any) -> Any:
            return client.status(cancelled), client.transport.address

        def good(answer: Any) -> None:
            status, where = answer
            text = tr("{address} answers: hospital “{site}”, base {base}, {cases} cases. Press Connect to use it.")
            desk.notify("info", text.format(address=where, site=status.site, base=status.base, cases=status.cases))

        def bad(error: Exception) -> None:
            if isinstance(error, LoginNeeded):
                desk.notify("info", tr("The server answers, and asks for a login. Press Connect to log in."))
            elif isinstance(error, FedSCAError):
                desk.notify("error", error.message)
            else:
                desk.notify("error", str(error))

        desk.jobs.submit("test", work, good, bad, latest_only=True, lane="test")

    def login(self, user: str, password: str) -> None:
        """Log in; what waited for it goes on."""
        desk = self._desk

        def work(client: Client, _cancelled: Any, _report: Any) -> str:
            client.login(user, password)
            return user

        def good(name: str) -> None:
            desk.preferences.set("user", name)
            desk.update(user=name, notice=None)
            self._ask()

        def bad(error: Exception) -> bool:
            if isinstance(error, (ConnectionProblem, LoginNeeded)):
                desk.notify("error", error.message, "login")
                return True
            return False

        desk.call("login", work, good, failed=bad, busy=tr("Logging in"), latest_only=True)

    def again(self) -> None:
        """Try now what would be tried later by itself."""
        if self._desk.state.connection == "lost":
            self._desk.not_later("reconnect")
            self._ask()
        else:
            self.connect(self._desk.state.address, self._desk.preferences.get("ca_file") or None)

    def disconnect(self) -> None:
        """Let the server go; what is drawn stays."""
        desk = self._desk
        self._leave(False)
        desk.let_go()
        desk.not_later("reconnect")
        desk.client = None
        desk.update(connection="off", info=None, status=None, versions=None, cases=(), user="", busy="", progress=None)

    def _ask(self) -> None:
        def work(client: Client, cancelled: Any, _report: Any) -> Any:
            return client.info(cancelled), client.status(cancelled)

        self._desk.call("connect", work, self._there, failed=self._not_there, busy=tr("Connecting"), latest_only=True, lane="connect")

    def _there(self, answer: Any) -> None:
        info, status = answer
        desk, fresh = self._desk, self._fresh
        self._wait, self._fresh = FIRST_WAIT, False
        kept = desk.state.notice if desk.state.notice is not None and desk.state.notice.kind != "error" else None
        desk.update(connection="on", info=info, status=status, notice=kept)
        self._welcome(fresh)
        desk.regained()

    def _not_there(self, error: Exception) -> bool:
        desk = self._desk
        if isinstance(error, LoginNeeded):
            desk.update(connection="login")
            return True
        if not self._fresh:
            desk.update(connection="lost")
            self._gone(getattr(error, "message", str(error)))
            return True
        desk.update(connection="off")
        text = error.message if isinstance(error, FedSCAError) else str(error)
        desk.notify("error", text, "retry")
        return True

    def _gone(self, message: str) -> None:
        """Try again, later and later."""
        desk = self._desk
        if desk.state.connection != "lost":
            return
        text = tr("The server does not answer. Your work is safe here and goes on when it is back. ({reason})").format(reason=message)
        if desk.state.notice is None or desk.state.notice.text != text:
            desk.notify("warning", text)
        desk.later("reconnect", self._wait, self._ask)
        self._wait = min(2 * self._wait, LONGEST_WAIT)
