"""A proxy between a SuperNode and the SuperLink that understands requests: it delivers messages twice, or loses the answer to one."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = 120.0
PUSH = "/push-messages"


class Relay:
    """Listens on `port`; threads: one for each connection, and one that listens.

    Attributes:
        twice: whether every pushed message is delivered a second time, as by a proxy that has lost the first answer.
        lose: of so many pushed messages the answer is thrown away, and the connection broken.
        repeated: how many deliveries were repeated.
    """

    def __init__(self, target: int) -> None:
        self.target, self.twice, self.lose, self.repeated = target, False, 0, 0
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                pushes = PUSH in self.path
                try:
                    status, headers, answer = relay.deliver(self.command, self.path, dict(self.headers), body)
                    if pushes and relay.twice:
                        relay.repeated += 1
                        status, headers, answer = relay.deliver(self.command, self.path, dict(self.headers), body)
                except OSError:
                    self.close_connection = True
                    return
                if pushes and relay.lose > 0:
                    relay.lose -= 1
                    self.close_connection = True
                    return
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST  # noqa: N815 - as the base class wants them

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="relay", daemon=True)
        self._thread.start()

    def deliver(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """One request to the SuperLink; its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=SECONDS)
        try:
            connection.request(method, path, body, {**headers, "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SECONDS)
