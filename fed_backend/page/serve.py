"""Serves the page in this process until it is told to end (SIGINT, SIGTERM)."""

import uvicorn

from fed_backend.page.page_options import PageOptions
from fed_backend.page.web import application

GRACE_SECONDS = 5
MOST_CONNECTIONS = 100


def server(options: PageOptions) -> uvicorn.Server:
    """A server that `run` or `serve` starts; whoever supervises it ends it by `should_exit`."""
    config = uvicorn.Config(
        application(options),
        host=options.host.strip("[]"),
        port=options.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    return uvicorn.Server(config)


def serve(options: PageOptions) -> None:
    """Serve until the process is told to end."""
    server(options).run()
