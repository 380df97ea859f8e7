"""A Keycloak-style realm for tests, over HTTP on this machine: key, token endpoint, tokens of every kind."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PHRASE = "realm phrase of anna"


def new_key() -> rsa.RSAPrivateKey:
    """A fresh RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class FakeRealm:
    """What the realm answers with; tests change it.

    Attributes:
        url: its address.
        key, kid: signs its tokens.
        discovery: whether it has a key set (JWKS) and says its issuer, or, like MONAI Label's own tests, shows one public key.
        broken: answers 500 to everything.
        asked: paths of the requests so far.
    """

    url: str = ""
    key: rsa.RSAPrivateKey = field(default_factory=new_key)
    kid: str = "first"
    discovery: bool = True
    broken: bool = False
    asked: list[str] = field(default_factory=list)

    def token(self, key: Any = None, algorithm: str = "RS256", kid: str | None = "", **changed: Any) -> str:
        """A token of anna, annotator; `changed` claims replace the right ones, None takes one out."""
        now = int(time.time())
        roles = ["monailabel-user", "monailabel-annotator"]
        right = {"iss": self.url, "typ": "Bearer", "preferred_username": "anna", "name": "Anna A.", "realm_access": {"roles": roles}}
        claims = {**right, "iat": now, "exp": now + 600, **changed}
        headers = {} if kid is None else {"kid": kid or self.kid}
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.key if key is None and algorithm == "RS256" else key, algorithm=algorithm, headers=headers)

    def public_pem(self) -> bytes:
        """The public key, as PEM."""
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body of a GET."""
        self.asked.append(path)
        if self.broken:
            return 500, {}
        if path == "/realms/test":
            pem = self.public_pem().decode().splitlines()
            return 200, {"realm": "test", "public_key": "".join(pem[1:-1])}
        if path == "/realms/test/.well-known/openid-configuration":
            found = {"token_endpoint": self.url + "/token"}
            return 200, {**found, "issuer": self.url, "jwks_uri": self.url + "/certs"} if self.discovery else found
        if path == "/realms/test/certs":
            jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
            return 200, {"keys": [{**jwk, "kid": self.kid, "use": "sig", "alg": "RS256"}, {"kty": "RSA", "use": "enc", **_other_key()}]}
        return 404, {}

    def login(self, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """Status and body of a login."""
        right = form.get("username") == ["anna"] and form.get("password") == [PHRASE] and form.get("grant_type") == ["password"]
        if self.broken:
            return 500, {}
        return (
            (200, {"access_token": self.token(), "token_type": "Bearer", "expires_in": 600}) if right else (401, {"error": "invalid_grant"})
        )


def _other_key() -> dict[str, str]:
    return {"n": base64.urlsafe_b64encode(b"\xff" * 256).decode().rstrip("="), "e": "AQAB", "kid": "encrypts"}


@contextmanager
def running_realm(**given: Any) -> Iterator[FakeRealm]:
    """A realm that answers until the block ends."""
    realm = FakeRealm(**given)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(*realm.answer(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._reply(*realm.login(parse_qs(body)))

        def _reply(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    realm.url = f"http://127.0.0.1:{server.server_address[1]}/realms/test"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield realm
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
