"""`python -m monailabel_app.serve`, which `fedsca serve` executes: MONAI Label's server, hardened.

MONAI Label reads its settings from the environment when it is imported: everything is checked and put there first. Its folder of the app
(log, scratch) is made in the site directory, so that two sites of one machine never share a log.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from monailabel_app.serve_options import ServeOptions, parsed
from monailabel_app.site_place import default_site
from sam_adapters.errors import FedscaError, SettingError
from sam_adapters.site_directory import SiteDirectory

APP_SOURCE = '''"""Made by `fedsca serve`: what MONAI Label loads."""

from monailabel_app.app import FedSCALabelApp

__all__ = ["FedSCALabelApp"]
'''
HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
"""On every reply. No Strict-Transport-Security: it would hold for every other port of the machine too."""

GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 75
"""An idle connection stays open: with uvicorn's 5 s a click after a pause of just that could meet a connection that is being closed."""


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C; 2 and a sentence on the error stream when that cannot be."""
    try:
        options = parsed(arguments)
        refuse_forgotten_login(options, os.environ)
        require_free(options.host, options.port)
        site = open_site(options)
        folder = app_folder(site)
    except FedscaError as error:
        print(f"fedsca: {error}", file=sys.stderr)  # noqa: T201 - this is the command's error stream
        return 2
    os.environ.update(environment(options, site, folder, os.environ))
    return run(options, folder)


def environment(options: ServeOptions, site: SiteDirectory, folder: Path, present: Mapping[str, str]) -> dict[str, str]:
    """The variables from which MONAI Label, the door and torch learn what they are to do."""
    realm = {"MONAI_LABEL_AUTH_REALM_URI": options.realm, "MONAI_LABEL_AUTH_CLIENT_ID": options.realm_client} if options.realm else {}
    return {
        "MONAI_LABEL_APP_DIR": str(folder),
        "MONAI_LABEL_STUDIES": options.studies,
        "MONAI_LABEL_APP_CONF": json.dumps({**options.conf, "site": str(site.root)}),
        "MONAI_LABEL_SERVER_PORT": str(options.port),
        "MONAI_LABEL_AUTH_ENABLE": "true" if options.login else "false",
        "MONAI_LABEL_CORS_ORIGINS": "[]",
        **realm,
        **options.door.environment(),
        # torch's threads that wait would else spin, and starve tuning and the other requests of the machine's cores
        "OMP_WAIT_POLICY": present.get("OMP_WAIT_POLICY", "PASSIVE"),
        "PYTHONPATH": present.get("PYTHONPATH", ""),  # MONAI Label's tasks expect it to be there
    }


def refuse_forgotten_login(options: ServeOptions, present: Mapping[str, str]) -> None:
    """Raise SettingError where the environment asks for a login and the options do not: it would silently be off."""
    if not options.login and present.get("MONAI_LABEL_AUTH_ENABLE", "").lower() in ("true", "1", "yes", "on", "t", "y"):
        raise SettingError("MONAI_LABEL_AUTH_ENABLE asks for a login: say with --users or --realm who knows the users, or unset it.")


def open_site(options: ServeOptions) -> SiteDirectory:
    """The site directory, made when missing, and the studies folder with it.

    Raises:
        SettingError: it cannot be made, or is not named although the studies are not a folder.
    """
    remote = options.studies.startswith(("http://", "https://"))
    if remote and options.site is None:
        raise SettingError("Studies on a DICOMweb server need --site: name the folder that holds this site's adapters and logs.")
    studies = None if remote else Path(options.studies).expanduser().resolve()
    try:
        if studies is not None:
            studies.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SiteDirectory.open(options.site.expanduser() if options.site else _default_site(studies), studies)
    except OSError as error:
        raise SettingError(f"{error.filename} cannot be made ({error.strerror}): name another folder.") from error


def app_folder(site: SiteDirectory) -> Path:
    """The folder that MONAI Label takes the app from and writes its log into."""
    folder = site.work / "app"
    try:
        for name in ("model", "lib", "logs", "bin"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "main.py").write_text(APP_SOURCE, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{error.filename} cannot be written ({error.strerror}): free space or mend the folder's rights.") from error
    return folder


def require_free(host: str, port: int) -> None:
    """Raise SettingError when something listens at that address, or it is none of this machine."""
    try:
        family = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        raise SettingError(f"Cannot listen on {host} port {port} ({error.strerror}): choose another --port or --host.") from error


def run(options: ServeOptions, folder: Path) -> int:
    """MONAI Label's server, in this process."""
    import uvicorn
    from monailabel.config import settings
    from monailabel.utils.others.generic import init_log_config

    if settings.MONAI_LABEL_AUTH_ENABLE is not options.login:  # it was imported before its settings were there
        raise RuntimeError("MONAI Label did not take the login's setting: nothing is served.")
    log_config = init_log_config(None, str(folder), "app.log", "INFO")
    print(f"Serving {options.studies} on {options.url}, {_login_words(options)}. Ctrl-C ends.", flush=True)  # noqa: T201
    uvicorn.run(
        "monailabel.app:app",
        host=options.host.strip("[]"),
        port=options.port,
        log_config=log_config,
        access_log=options.verbose,
        proxy_headers=bool(options.proxy),
        forwarded_allow_ips=options.proxy or None,
        server_header=False,
        headers=HEADERS,
        ssl_certfile=options.tls[0] if options.tls else None,
        ssl_keyfile=options.tls[1] if options.tls else None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return 0


def _login_words(options: ServeOptions) -> str:
    if options.realm:
        return f"login at {options.realm}"
    return f"login by {options.door.users}" if options.login else "without login, for this machine only"


def _default_site(studies: Path | None) -> Path:
    if studies is None:
        raise SettingError("No studies folder.")
    return default_site(studies)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
