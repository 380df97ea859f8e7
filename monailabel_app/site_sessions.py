"""Sessions (images kept for a while) that several threads may use, and that end when their time is over.

Threads: one re-entrant lock for every method. A session's folder holds its image and `meta.info`, which is written atomically.
"""

import threading
import time
import uuid
from pathlib import Path
from typing import Any

from monailabel.utils.sessions import SessionInfo, Sessions

from monailabel_app.request_guard import SESSION_PATTERN
from sam_adapters import atomic

META = "meta.info"


class SiteSessions(Sessions):  # type: ignore[misc]  # monailabel is not typed
    """MONAI Label's sessions: same folders, same replies."""

    def __init__(self, store_path: str, expiry: int) -> None:
        self._lock = threading.RLock()
        super().__init__(store_path, expiry)

    def add(self, image: Path, expiry: int) -> tuple[str, SessionInfo]:
        """Move an image's file or folder into a new session of `expiry` seconds (0: the longest there is). Returns its id and details."""
        with self._lock:
            found: tuple[str, SessionInfo] = self.add_session(str(image), expiry, False, str(uuid.uuid4()))
            return found

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> SessionInfo | None:
        """A session that has not expired, else None; with `update_ts` its time begins anew."""
        if not SESSION_PATTERN.fullmatch(session_id):
            return None
        with self._lock:
            try:
                found = super().get_session(session_id, update_ts=False, fetch_cache=fetch_cache)
            except (OSError, ValueError, AttributeError, TypeError):  # its meta.info is damaged
                found = None
            if found is None:
                return None
            if found.expiry > 0 and found.last_access_ts + found.expiry < time.time():
                self.remove_session(session_id)
                return None
            if update_ts:
                found.last_access_ts = int(time.time())
                self._write_meta_info(session_id, found)
            return found

    def remove_session(self, session_id: str) -> None:
        """Remove a session and its files; nothing if there is none."""
        with self._lock:
            super().remove_session(session_id)

    def remove_expired(self) -> int:
        """Remove what has expired or is damaged; returns how many."""
        folder = Path(self.store_path)
        with self._lock:
            names = [item.name for item in folder.iterdir() if item.is_dir()] if folder.is_dir() else []
            gone = [name for name in names if self.get_session(name, update_ts=False, fetch_cache=False) is None]
            for name in gone:
                self.remove_session(name)
            return len(gone)

    def _write_meta_info(self, session_id: str, session_info: Any) -> None:
        atomic.write_bytes(Path(self.store_path) / session_id / META, session_info.to_str().encode())
