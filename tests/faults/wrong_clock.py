"""A wall clock for some processes that may jump while they run: a small library loaded before libc, compiled where there is a compiler."""

import shutil
import struct
import subprocess
from pathlib import Path

from tests.faults.federation import NotHere

SOURCE = Path(__file__).parent / "hook" / "clock.c"


class WrongClock:
    """The clock of the processes that get `environment`."""

    def __init__(self, folder: Path, name: str) -> None:
        compiler, library = shutil.which("cc"), folder / "wrong-clock.so"
        if compiler is None:
            raise NotHere("there is no C compiler to build the clock with")
        if not library.exists():
            subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl", "-lm"], check=True, timeout=120)
        self._file = folder / f"{name}.clock"
        self._file.write_bytes(struct.pack("d", 0.0))
        self.environment = {"LD_PRELOAD": str(library), "FEDSCA_CLOCK": str(self._file)}

    def jump(self, seconds: float) -> None:
        """Be wrong by so many seconds from now on."""
        with self._file.open("r+b") as stream:
            stream.write(struct.pack("d", seconds))
