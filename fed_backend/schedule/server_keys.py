"""The keys of federation.toml that are about this server alone: where it listens, when rounds are due, the operator's page."""

from fed_backend.launch import DEFAULT_SUPERLINK_PORT
from fed_backend.page.page_options import DEFAULT_PORT as DEFAULT_PAGE_PORT
from fed_backend.schedule.agreed_keys import Key, agreed_keys

_SCHEDULE = (
    Key(
        "schedule",
        "cron",
        "",
        "When a round is due: minute, hour, day of the month, month, day of the week. "
        '"0 2 * * *" is every night at two, "30 20 * * mon-fri" every evening of the working week. '
        "Empty: only when a person asks (fedsca server now).",
    ),
    Key("schedule", "time_zone", "UTC", "The time zone in which cron and blackouts are meant, for example Europe/Berlin."),
    Key(
        "schedule",
        "catch_up_hours",
        12.0,
        "A round that was missed, because the server was off, is made up for once if it is not older than this; 0 makes up for none.",
    ),
)
_SERVER = (
    Key("server", "state", "", "Folder of the server's state; empty: the folder of this file. Paths in this file are relative to it."),
    Key("server", "host", "127.0.0.1", "Address to listen on; 0.0.0.0 for every one. Anything but 127.0.0.1 needs TLS."),
    Key("server", "port", DEFAULT_SUPERLINK_PORT, "Port for the sites, which connect to it; nothing else needs to be open."),
    Key(
        "server",
        "ssl_ca",
        "",
        "The hospital's own TLS, three PEM files. The authority that signed the certificate; "
        "all three empty: the certificate that fedsca server init made, if it was called.",
    ),
    Key("server", "ssl_cert", "", "The server's certificate."),
    Key("server", "ssl_key", "", "Its private key."),
    Key("server", "node_authentication", False, "Let only registered sites in. Always so after fedsca server init."),
    Key(
        "server",
        "stop_seconds",
        30.0,
        "How long a running round may go on after the order to stop. What is interrupted is finished after the next start.",
    ),
)
_PAGE = (
    Key("page", "enabled", True, "Serve the operator's page. Add a user first: fedsca server users add NAME."),
    Key("page", "host", "127.0.0.1", "Address to listen on. Anything but 127.0.0.1 needs TLS."),
    Key("page", "port", DEFAULT_PAGE_PORT, "Its port."),
    Key("page", "ssl_cert", "", "The page's certificate, PEM file; empty: http, on 127.0.0.1 only."),
    Key("page", "ssl_key", "", "Its private key."),
    Key("page", "minutes", 60.0, "How long a login lasts, in minutes."),
    Key("page", "metrics_token", "", "File (mode 0600) with a token that lets Prometheus read /metrics."),
)
SERVER_KEYS = (*_SCHEDULE, *_SERVER, *_PAGE)

BLACKOUT_SECTION = "schedule.blackout"
BLACKOUT_KEYS = ("from", "until", "days")


def all_keys() -> list[Key]:
    """Every key, in the order of the file."""
    return [*agreed_keys(), *SERVER_KEYS]
