"""Random requests made from the server's own OpenAPI description, and random damage to files, against a real server.

    python -m tests.monailabel_app.http_fuzz --examples 300 --seconds 900 [--seed N]

ends with 1 and the failing request when a reply is a 5xx or the server dies. The tests run a short form of it with a fixed seed.
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.monailabel_app.bad_files import whole_files
from tests.monailabel_app.server_process import Server, running_server, write_label, write_picture, write_volume

CONF = {"image_size": "64", "uncertainty": "false", "tune": "false"}
KNOWN = {"model": "sam", "strategy": "first", "image": "a", "label": "a", "id": "spare", "tag": "final", "version": "base"}
"""Values under which a request gets past the first check; without them nearly every one would be a 404."""

STARTS_A_PROCESS = {"/train/{model}", "/batch/infer/{model}"}
"""Addresses that are asked for unknown models only: each call with a known one would start a process of its own."""

SECONDS_A_REPLY = 120


def make_studies(folder: Path) -> Path:
    """A site with a labelled volume, a picture and a spare case; returns its studies."""
    studies = folder / "site" / "studies"
    (studies / "labels" / "final").mkdir(parents=True)
    write_label(studies / "labels" / "final" / "a.nii.gz", write_volume(studies / "a.nii.gz"))
    write_picture(studies / "p.png")
    write_picture(studies / "spare.png")
    return studies


class Deadline:
    """When to stop; what is left then is not tried, and said so."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end


def bounded(test: Callable[..., None], examples: int, number: int) -> None:
    """Run a hypothesis test so often, always with the same examples for the same number; failures are made small."""
    limits = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink)
    )
    seed(number)(limits(test))()


def check_reply(reply: Any, what: str) -> None:
    """Fail on what no request may cause."""
    assert reply.status_code < 500, f"{reply.status_code} for {what}: {reply.text[:300]}"
    if reply.status_code >= 400 and reply.content:
        assert isinstance(json.loads(reply.content)["detail"], str), what


def fuzz_described(server: Server, examples: int, number: int, deadline: Deadline) -> int:
    """Random requests, as described and against the description, to every operation; returns how many were sent."""
    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    sent = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:
            if deadline.over:
                return sent

            @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
            def send(case: Any, known: bool) -> None:
                nonlocal sent
                if deadline.over:
                    return
                if known:
                    fill_in(case)
                sent += 1
                check_reply(case.call(timeout=SECONDS_A_REPLY), case.as_curl_command())

            try:
                bounded(send, examples, number)
            except schemathesis.errors.InvalidSchema:  # nothing of this kind can be made of the operation (no parameters to get wrong)
                continue
            finally:
                assert server.get("/info/").status_code == 200
    return sent


def fill_in(case: Any) -> None:
    """Replace names that random text never meets by known ones."""
    for parameters in (case.path_parameters, case.query):
        for name in set(KNOWN) & set(parameters or {}):
            if not (name == "model" and case.path in STARTS_A_PROCESS):
                parameters[name] = KNOWN[name]
    if isinstance(case.body, dict) and {"image", "session"} & set(case.body):
        case.body.pop("session", None)
        case.body["image"] = KNOWN["image"]


@st.composite
def damaged(draw: st.DrawFn, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """A file with changed, missing or additional bytes, most of them in its header; of a gzipped one, before or after unpacking."""
    name = draw(st.sampled_from(sorted(whole)))
    inside = name.endswith(".gz") and draw(st.booleans())
    data = bytearray(gzip.decompress(whole[name]) if inside else whole[name])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.one_of(st.integers(0, min(400, len(data) - 1)), st.integers(0, len(data) - 1)))
        piece = draw(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\xff\xff\xff\x7f", b"\0\0\0\0", b"99999999", b"-1"])))
        match draw(st.sampled_from(["replace", "replace", "replace", "insert", "cut"])):
            case "replace":
                data[place : place + len(piece)] = piece
            case "insert":
                data[place:place] = piece
            case "cut":
                del data[place + 1 :]
    return name, gzip.compress(bytes(data), 1) if inside else bytes(data)


def fuzz_uploads(server: Server, folder: Path, examples: int, number: int, deadline: Deadline) -> int:
    """Damaged files at every door, and their use where they are taken; returns how many were tried."""
    whole = whole_files(folder)
    tried = 0

    @given(file=damaged(whole))
    def send(file: tuple[str, bytes]) -> None:
        nonlocal tried
        if deadline.over:
            return
        tried += 1
        point = {"params": (None, json.dumps({"foreground": [[0, 0, 0]], "axis": "k"}))}
        reply = server.request("PUT", "/datastore/image?image=fuzz", files={"file": file}, timeout=SECONDS_A_REPLY)
        check_reply(reply, "PUT /datastore/image")
        if reply.ok:
            check_reply(server.request("POST", "/infer/sam?image=fuzz&output=image", files=point, timeout=SECONDS_A_REPLY), "infer")
            assert server.request("DELETE", "/datastore/image?id=fuzz").status_code == 200
        check_reply(server.request("POST", "/infer/sam", files={**point, "file": file}, timeout=SECONDS_A_REPLY), "infer with file")
        reply = server.request("PUT", "/session/", files={"files": file}, timeout=SECONDS_A_REPLY)
        check_reply(reply, "PUT /session/")
        if reply.ok:
            assert server.request("DELETE", f"/session/{reply.json()['session_id']}").status_code == 200
        check_reply(server.request("PUT", "/datastore/label?image=a&tag=fuzz", files={"label": file}, timeout=SECONDS_A_REPLY), "PUT label")

    try:
        bounded(send, examples, number)
    except requests.ConnectionError as error:
        raise AssertionError(f"The server died (exit code {server.process.poll()}):\n{server.log()[-2000:]}") from error
    assert server.get("/info/").status_code == 200
    return tried


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=100, help="requests of each kind")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        (folder / "files").mkdir()
        with running_server(folder, make_studies(folder), CONF) as server:
            try:
                uploads = fuzz_uploads(server, folder / "files", chosen.examples, chosen.seed, Deadline(chosen.seconds / 2))
                sent = fuzz_described(server, chosen.examples, chosen.seed, Deadline(chosen.seconds / 2))
            except AssertionError as error:
                sys.stderr.write(f"{error}\n{server.log()[-6000:]}\n")
                return 1
    sys.stdout.write(f"{uploads} damaged files and {sent} requests: no 5xx, and the server lives.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
