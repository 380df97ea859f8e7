"""`python -m workstation`: the page on this computer, against a hospital's server or one that is started for a folder of images."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

# Before Slicer's core is imported: render without a screen, and do not compress pictures a second time on their way.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
os.environ.setdefault("WSLINK_WS_COMPRESS", "0")
os.environ.setdefault("WSLINK_READY_MSG", "")

from dataclasses import replace

from FedSCALib.errors import FedSCAError

from workstation import settings as options
from workstation.label_server import LabelServer


def main() -> int:
    """Exit status: 0 after it was told to end, 1 where something is missing."""
    settings = options.read()
    sys.argv = sys.argv[:1]  # the rest is ours, and trame would read it too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = None
    try:
        options.check_port(settings)  # before anything slow is started
        if settings.studies is not None:
            started = LabelServer(settings.studies, settings.conf, settings.home)
            print(f"Starting the hospital's server for {settings.studies} …", flush=True)  # noqa: T201
            settings = replace(settings, server=started.wait())
        asyncio.run(_serve(settings))
    except FedSCAError as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        return 1
    except (KeyboardInterrupt, SystemExit):
        return 0
    finally:
        if started is not None:
            started.stop()
    return 0


async def _serve(settings: options.Settings) -> None:
    from workstation.station import Workstation  # late: Slicer's core takes seconds, and a wrong option should be told at once

    await Workstation(settings).run()


if __name__ == "__main__":
    sys.exit(main())
