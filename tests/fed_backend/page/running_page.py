"""The page in a thread, and a headless Chromium in front of it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fed_backend.page.page_options import USERS_FILE, PageOptions
from fed_backend.page.serve import server
from sam_adapters.login import passwords
from sam_adapters.login.user_file import UserFile

NAME, PHRASE = "olga", "a long virtual phrase"
START_SECONDS = 60.0


def add_operator(state: Path) -> None:
    UserFile(state / USERS_FILE).add(NAME, passwords.hashed(PHRASE), ["user"])


@contextmanager
def running_page(state: Path) -> Iterator[str]:
    """Serve `state` on a free port of this machine; gives the address."""
    listening = socket.create_server(("127.0.0.1", 0))
    options = PageOptions(state, port=listening.getsockname()[1])
    running = server(options)
    thread = threading.Thread(target=running.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield options.url
    finally:
        running.should_exit = True
        thread.join(START_SECONDS)
        listening.close()
        assert not thread.is_alive(), "the page did not end"
