"""Versions that do not fit: bases, layouts, software, wire and state formats."""

import dataclasses
import io
import signal
import subprocess
import tarfile
import time
from pathlib import Path

from fed_backend import server_state_file
from fed_backend.server_state import ServerState
from fed_backend.server_state_file import STATE_FILE
from sam_adapters import atomic
from sam_adapters.settings import SiteSettings
from tests.faults.damaged import next_round
from tests.faults.fault import Seen, fault
from tests.faults.federation import Federation, NotHere

TREE = Path(__file__).resolve().parents[2]
BEFORE_WIRE_2 = "b6abbfc"  # the last commit whose messages have version 1
PARTS = ("fed_backend", "sam_adapters", "pyproject.toml")
THREE = {
    "sites": ("A", "B", "C"),
    "options": {"rounds": {"min_sites": 2, "join_seconds": 90.0, "update_seconds": 240.0, "mixture_seconds": 120.0}},
}


def told(federation: Federation, site: str) -> str:
    """A round of the two others; what the third was told, and what the server wrote down."""
    report = federation.round()
    assert sorted(report["verdicts"]) == [name for name in federation.names if name != site], f"{report['refusals']}\n{federation.logs()}"
    return federation.reason(site)


@fault("a site with adapters of another rank", "skew", **THREE)
def other_schema(federation: Federation) -> Seen:
    site = federation.sites["C"]
    right = SiteSettings.load(site.settings_file)
    right.override({"rank": "4"}).save(site.settings_file)
    reason = told(federation, "C")
    assert "rank" in reason, reason
    assert "the federation" in reason, reason
    right.save(site.settings_file)
    begun = time.monotonic()
    federation.whole_round()
    return Seen("It was told so, and the others went on; put right, it took part again.", time.monotonic() - begun, reason)


@fault("a site with another base network", "skew", **THREE)
def other_base(federation: Federation) -> Seen:
    site = federation.sites["C"]
    right = SiteSettings.load(site.settings_file)
    right.override({"base": f"sam:{federation.templates / 'other-base'}"}).save(site.settings_file)
    reason = told(federation, "C")
    assert "base" in reason, reason
    assert "the federation" in reason, reason
    right.save(site.settings_file)
    begun = time.monotonic()
    federation.whole_round()
    return Seen("It was told so, and the others went on; put right, it took part again.", time.monotonic() - begun, reason)


def restart_with(federation: Federation, site: str, tree: Path | None) -> None:
    """The site's software is that of another tree from now on; None: this one."""
    kept = federation.kept[site]
    activated = federation.kept["server"].said.count("Activated node_id")
    kept.off(signal.SIGTERM)  # it says goodbye, so that nobody waits for it
    paths = kept.environment["PYTHONPATH"].split(":")
    hook = paths[0]
    kept.environment["PYTHONPATH"] = ":".join([hook, str(tree or TREE)])
    kept.on()
    federation.wait(f"{site} back", lambda: federation.kept["server"].said.count("Activated node_id") > activated)


def newer_software(federation: Federation) -> Path:
    """This software, but speaking a later version of the wire format."""
    folder = federation.folder / "newer"
    subprocess.run(["cp", "-r", *[str(TREE / part) for part in PARTS], str(_made(folder))], check=True, timeout=60)
    wire = folder / "fed_backend" / "wire.py"
    text = wire.read_text(encoding="utf-8")
    changed = text.replace("\nWIRE_VERSION = 2", "\nWIRE_VERSION = 3", 1)
    assert changed != text
    wire.write_text(changed, encoding="utf-8")
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@fault("a site with newer software, whose messages this server does not know", "skew", **THREE)
def newer_wire(federation: Federation) -> Seen:
    restart_with(federation, "C", newer_software(federation))
    reason = told(federation, "C")
    assert "version" in reason, reason
    assert "update" in reason.lower(), reason
    restart_with(federation, "C", None)
    begun = time.monotonic()
    federation.whole_round()
    return Seen(
        "It was refused with what to do, and the others went on; with the same version it took part again.",
        time.monotonic() - begun,
        reason,
    )


@fault("a site with older software, from before wire format 2", "skew", **THREE)
def older_wire(federation: Federation) -> Seen:
    archive = subprocess.run(["git", "archive", BEFORE_WIRE_2, *PARTS], cwd=TREE, capture_output=True, check=False)
    if archive.returncode != 0:
        raise NotHere(f"this checkout does not hold commit {BEFORE_WIRE_2}")
    folder = _made(federation.folder / "older")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    restart_with(federation, "C", folder)
    begun = time.monotonic()
    federation.whole_round()
    took = time.monotonic() - begun
    assert federation.server_state().sites["C"].wire == 1
    restart_with(federation, "C", None)
    federation.whole_round()
    assert federation.server_state().sites["C"].wire == 2
    return Seen("It took part in its own version of the format, the others in theirs; updated, it spoke the new one.", took)


def rewrite(federation: Federation, version: int) -> ServerState:
    """The server's state as software of another format would have written it."""
    state, kept = federation.server_state(), (server_state_file.FORMAT_VERSION, server_state_file._to_document)

    def document(value: ServerState) -> dict[str, object]:
        found = kept[1](value)
        if version == 1:
            found["sites"] = [{key: one for key, one in site.items() if key != "wire"} for site in found["sites"]]
        return {**found, "format": version}

    server_state_file._to_document = document  # type: ignore[assignment]
    try:
        server_state_file.save(state, federation.state / STATE_FILE)
    finally:
        server_state_file._to_document = kept[1]
    return state


@fault("the server's state is of an older format", "skew")
def older_state(federation: Federation) -> Seen:
    before = rewrite(federation, 1)
    seen = next_round(federation, "It was read and written anew in the present format; nothing was lost.")
    after = federation.server_state()
    assert after.federation == before.federation
    assert [entry.round for entry in after.history][:-1] == [entry.round for entry in before.history]
    return seen


@fault("the server's state is of a newer format", "skew")
def newer_state(federation: Federation) -> Seen:
    path = federation.state / STATE_FILE
    whole = path.read_bytes()
    rewrite(federation, server_state_file.FORMAT_VERSION + 1)
    federation.ask()

    def given_up() -> bool:
        last = federation.last()
        return last is not None and last.outcome == "given up"

    federation.wait("the round is given up", given_up)
    last = federation.last()
    assert last is not None
    assert "update FedSCA Label here" in last.reason, last
    atomic.write_bytes(path, whole)
    begun = time.monotonic()
    federation.whole_round()
    return Seen("The file was left alone and the round given up with what to do.", time.monotonic() - begun, last.reason)


@fault("federation.toml and a site.json of older software, without newer keys", "skew")
def older_settings(federation: Federation) -> Seen:
    toml = federation.state / "federation.toml"
    kept = toml.read_text(encoding="utf-8")
    new = ("encoding", "clip", "noise", "epsilon", "delta", "probe ", "[privacy]", "caution")
    toml.write_text("\n".join(line for line in kept.splitlines() if not line.startswith(new)) + "\n", encoding="utf-8")
    site = federation.sites["A"].settings_file
    settings = SiteSettings.load(site)
    names = {entry.name for entry in dataclasses.fields(settings)}
    assert "window" in names
    atomic.write_json(site, {"name": settings.name, "image_size": settings.image_size, "threads": settings.threads})
    federation.kept["server"].off()
    federation.kept["server"].on()
    seen = next_round(federation, "What is missing took its default.")
    toml.write_text(kept, encoding="utf-8")
    settings.save(site)
    return seen
