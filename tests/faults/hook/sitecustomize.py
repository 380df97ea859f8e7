"""Python loads this at the start of every process of a federation under test: it stops, kills or fails a process at a named moment.

Only where FEDSCA_FAULTS names a folder; see `tests/faults/moments.py` for the rules in it. A moment is an audit event of Python itself
(a module is imported, a file is opened, renamed into place or synced), so nothing in the product knows of this.
"""

import os
import sys

_folder = os.environ.get("FEDSCA_FAULTS", "")
if _folder:
    import errno
    import json
    import re
    import signal
    import time
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    _HOLD_SECONDS = 300.0
    _home, _line = os.environ.get("FLWR_HOME", ""), " ".join(sys.orig_argv)

    def _rules() -> "Iterator[dict[str, Any]]":
        for path in sorted(Path(_folder).glob("*.rule")):
            rule = json.loads(path.read_text(encoding="utf-8"))
            if re.search(rule["process"], _line) and re.search(rule["home"], _home):
                yield {**rule, "path": path, "matching": re.compile(rule["matching"])}

    def _text(event: str, arguments: tuple[Any, ...]) -> str:
        if event == "os.rename":
            return f"{os.fsdecode(arguments[0])} -> {os.fsdecode(arguments[1])}"
        return str(arguments[0])

    def _claim(path: Path) -> bool:
        """Whether this process is the first for which the rule holds."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def _act(rule: dict[str, Any]) -> None:
        path = rule["path"]
        if rule["action"] == "kill":
            if _claim(path.with_suffix(".fired")):
                os.kill(os.getpid(), signal.SIGKILL)
        elif rule["action"] == "hold":
            if _claim(path.with_suffix(".fired")):
                part = path.with_suffix(".part")
                part.write_text(str(os.getpid()), encoding="utf-8")
                part.replace(path.with_suffix(".held"))
                deadline = time.monotonic() + _HOLD_SECONDS
                while not path.with_suffix(".go").exists() and time.monotonic() < deadline:
                    time.sleep(0.02)
        elif not path.with_suffix(".go").exists():  # fails until it is lifted
            path.with_suffix(".fired").touch()
            raise OSError(getattr(errno, rule["action"]), os.strerror(getattr(errno, rule["action"])), "injected")

    _here = list(_rules())
    if _here:
        _busy: list[bool] = []

        def _watch(event: str, arguments: tuple[Any, ...]) -> None:
            if event not in _events or _busy:
                return
            text = _text(event, arguments)
            for rule in _here:
                if rule["event"] == event and rule["matching"].search(text):
                    if rule["skip"] > 0:
                        rule["skip"] -= 1
                        continue
                    _busy.append(True)
                    try:
                        _act(rule)
                    finally:
                        _busy.pop()

        _events = {rule["event"] for rule in _here}
        sys.addaudithook(_watch)
