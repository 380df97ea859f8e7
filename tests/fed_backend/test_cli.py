import errno
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fed_backend.cli import main
from fed_backend.cli.commands import COMMANDS
from sam_adapters.registry import Registry, Version
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_adapter import make_adapter, toy_provenance

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `fedsca` in this process: exit code, output, errors."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        code = stopped.value.code
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return run


def figures(before: float, after: float) -> dict[str, object]:
    return {"cases": 5, "overall": {"candidate": after, "active": before, "base": 0.5}}


@pytest.fixture
def site(tmp_path: Path) -> SiteDirectory:
    """A site with a retired, an active, a rejected and an undecided version."""
    site = SiteDirectory.open(tmp_path / "site")
    with Registry(site) as registry:
        first = registry.add(make_adapter(tmp_path / "1", 1), toy_provenance(labels={"case7": "0" * 64}))
        registry.activate(first.id, reason="Better than nothing.", by="gate", figures=figures(0.5, 0.75))
        mixture = {"kind": "mixture", "parents": (first.id,), "federation": "bladder", "round": 3, "weights": {"south": 0.25}}
        second = registry.add(make_adapter(tmp_path / "2", 2), toy_provenance(**mixture))
        registry.activate(second.id, reason="Better still [really].", by="gate", figures=figures(0.75, 0.8125))
        third = registry.add(make_adapter(tmp_path / "3", 3), toy_provenance(parents=(second.id,)))
        registry.reject(third.id, reason="Worse.", figures=figures(0.8125, 0.25))
        registry.add(make_adapter(tmp_path / "4", 4), toy_provenance(parents=(second.id,)))
    return site


@pytest.fixture
def versions(site: SiteDirectory) -> list[Version]:
    with Registry(site) as registry:
        return registry.versions()


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\ntry:\n  from fed_backend.cli import main; main(['--help'])\n"
        "finally:\n  print(sorted({'torch', 'flwr', 'sqlalchemy', 'monailabel', 'numpy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script]
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=60)
        seconds.append(time.monotonic() - start)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {command.name} " in done.stdout for command in COMMANDS)
    assert min(seconds) < 1


def test_every_command_can_be_loaded_and_helps_without_torch() -> None:
    script = (
        "import sys; from fed_backend.cli.commands import COMMANDS\n"
        "for command in COMMANDS: command.load()\n"
        "print(sorted({'torch', 'flwr', 'monailabel', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["demo", "doctor", "adapters", "server", "site"])
def test_help_of_every_command(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert out.startswith("Usage: fedsca " + command)
    assert "\\[" not in out


def test_help_says_what_each_argument_is(run: Run) -> None:
    _, out, _ = run("adapters", "export", "--help")
    assert "Version id, its first digits, or `active`.  [required]" in out
    assert out.count("DESTINATION") == 2  # in the usage, and once below it


def test_version_and_unknown_command(run: Run) -> None:
    assert run("--version")[:2] == (0, f"fedsca-label {importlib.metadata.version('fedsca-label')}\n")
    code, _, errors = run("activate")
    assert code == 2
    assert "No such command 'activate'" in errors


def test_module_runs_like_the_script(site: SiteDirectory) -> None:
    command = [sys.executable, "-m", "fed_backend.cli", "adapters", "list", "--site", str(site.root), "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert len(json.loads(done.stdout)["versions"]) == 4


class TestList:
    def test_the_table(self, run: Run, site: SiteDirectory, versions: list[Version]) -> None:
        code, out, errors = run("adapters", "list", "--site", site.root)
        assert (code, errors) == (0, "")
        header, *rows, last = out.splitlines()
        assert header.split() == ["version", "state", "kind", "created", "round", "parents", "cases", "Dice"]
        first, second, third, fourth = (row.split() for row in rows)
        assert first[:3] + first[5:] == [versions[0].id, "retired", "local", "base", "4", "0.500→0.750"]
        assert second[:3] + second[5:] == [versions[1].id, "active", "mixture", "3", versions[0].id[:8], "4", "0.750→0.812"]
        assert third[:3] + third[5:] == [versions[2].id, "rejected", "local", versions[1].id[:8], "4", "0.812→0.250"]
        assert fourth[:3] + fourth[5:] == [versions[3].id, "candidate", "local", versions[1].id[:8], "4"]
        assert last.startswith(f"Active: {versions[1].id}, activated ")
        assert last.endswith("by gate: Better still [really].")

    def test_json(self, run: Run, site: SiteDirectory, versions: list[Version]) -> None:
        found = json.loads(run("adapters", "list", "--site", site.root, "--json")[1])
        assert (found["active"], found["generation"]) == (versions[1].id, 2)
        assert [version["id"] for version in found["versions"]] == [version.id for version in versions]
        assert found["versions"][1]["dice"] == {"before": 0.75, "after": 0.8125}
        assert found["versions"][3]["dice"] is None

    def test_an_empty_site(self, run: Run, tmp_path: Path) -> None:
        site = SiteDirectory.open(tmp_path / "new")
        Registry(site).close()
        code, out, _ = run("adapters", "list", "--site", site.root)
        assert code == 0
        assert "No versions yet: the untuned base serves." in out

    def test_it_fits_eighty_columns(self, run: Run, site: SiteDirectory, versions: list[Version], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        _, out, _ = run("adapters", "list", "--site", site.root)
        assert all(len(line) <= 80 for line in out.splitlines())
        assert all(text in out for text in (*[version.id for version in versions], "0.812→0.250", "candidate"))
        assert "…" not in out


class TestShow:
    def test_everything_is_said(self, run: Run, site: SiteDirectory, versions: list[Version]) -> None:
        code, out, _ = run("adapters", "show", versions[1].id[:6], "--site", site.root)
        assert code == 0
        for line in (
            f"version     {versions[1].id}",
            "contents    intact",
            "round       3",
            f"parents     {versions[0].id}",
            "weights     south 0.25",
            f"folder      {site.adapters / versions[1].id}",
        ):
            assert line in out
        assert f"activated: {versions[0].id[:8]} → {versions[1].id[:8]}" in out
        assert "Better still [really]." in out

    def test_active_is_a_name_and_damage_is_said(self, run: Run, site: SiteDirectory, versions: list[Version]) -> None:
        weights = site.adapters / versions[1].id / "adapter_model.safetensors"
        weights.unlink()
        found = json.loads(run("adapters", "show", "active", "--site", site.root, "--json")[1])
        assert found["id"] == versions[1].id
        assert "is damaged" in found["problem"]
        assert [decision["action"] for decision in found["decisions"]] == ["activated"]

    def test_ambiguous_and_unknown_beginnings(self, run: Run, site: SiteDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        code, out, errors = run("adapters", "show", "0000", "--site", site.root)
        assert (code, out) == (2, "")
        assert errors == "fedsca: No version of this site begins with 0000: see `fedsca adapters list`.\n"
        with Registry(site) as registry:
            version = registry.versions()[0]
        monkeypatch.setattr(Registry, "versions", lambda _: [version, version])
        code, _, errors = run("adapters", "show", version.id[:4], "--site", site.root)
        assert code == 2
        assert f"{version.id[:4]} begins 2 versions" in errors

    @pytest.mark.parametrize("name", ["../../etc/passwd", "ABCD", "abc", ""])
    def test_what_is_no_id_is_refused(self, run: Run, site: SiteDirectory, name: str) -> None:
        code, _, errors = run("adapters", "show", name, "--site", site.root)
        assert code == 2
        assert "expected 16 hexadecimal digits" in errors


class TestSwitching:
    def active(self, site: SiteDirectory) -> str | None:
        with Registry(site) as registry:
            version = registry.active()
        return None if version is None else version.id

    def test_activate_writes_who_and_why(self, run: Run, site: SiteDirectory, versions: list[Version]) -> None:
        code, out, _ = run("adapters", "activate", versions[3].id[:8], "--site", site.root, "--by", "dr", "--reason", "Looks better.")
        assert code == 0
        assert out.startswith(f"Active: {versions[3].id} (before: {versions[1].id}).")
        with Registry(site) as registry:
            last = registry.decisions()[-1]
        assert (last.action, last.version, last.by, last.reason) == ("activated", versions[3].id, "dr", "Looks better.")
        assert run("adapters", "activate", versions[3].id, "--site", site.root)[1] == (
            f"Active: {versions[3].id}, as before. Tunings and rounds go on from it.\n"
        )

    def test_what_is_not_served_but_learnt_from_is_told_and_can_be_left(
        self, run: Run, site: SiteDirectory, versions: list[Version]
    ) -> None:
        with Registry(site) as registry:
            registry.reject(versions[3].id, reason="A little worse.", learn="Go on.")
        last = run("adapters", "list", "--site", site.root)[1].splitlines()[-1]
        assert last == (
            f"Tunings and rounds go on from {versions[3].id}, which is not served. "
            f"To go on from {versions[1].id}: `fedsca adapters activate {versions[1].id}`."
        )
        assert json.loads(run("adapters", "list", "--site", site.root, "--json")[1])["learnt_from"] == versions[3].id
        shown = run("site", "status", "--site", site.root)[1].splitlines()[0]
        assert shown.endswith(f"active version {versions[1].id}; tunings and rounds go on from {versions[3].id}")
        told = json.loads(run("adapters", "activate", versions[1].id, "--site", site.root, "--json")[1])
        assert told == {"active": versions[1].id, "learnt_from": versions[1].id, "previous": versions[1].id, "generation": 2}
        assert not run("adapters", "list", "--site", site.root)[1].splitlines()[-1].startswith("Tunings")

    def test_rollback_to_the_end(self, run: Run, site: SiteDirectory, versions: list[Version]) -> None:
        first = json.loads(run("adapters", "rollback", "--site", site.root, "--json")[1])
        assert first == {"active": versions[0].id, "learnt_from": versions[0].id, "previous": versions[1].id, "generation": 3}
        assert run("adapters", "rollback", "--site", site.root)[0] == 0
        assert self.active(site) is None
        code, out, errors = run("adapters", "rollback", "--site", site.root)
        assert (code, out) == (2, "")
        assert "nothing to roll back to" in errors

    def test_back_to_the_base(self, run: Run, site: SiteDirectory) -> None:
        assert run("adapters", "activate", "base", "--site", site.root)[0] == 0
        assert self.active(site) is None
        code, _, errors = run("adapters", "show", "active", "--site", site.root)
        assert code == 2
        assert "The untuned base is active" in errors

    def test_a_damaged_version_is_not_activated(self, run: Run, site: SiteDirectory, versions: list[Version]) -> None:
        (site.adapters / versions[0].id / "adapter_config.json").unlink()
        code, _, errors = run("adapters", "activate", versions[0].id, "--site", site.root)
        assert code == 2
        assert "is damaged" in errors
        assert self.active(site) == versions[1].id


class TestExport:
    def test_it_copies_the_peft_folder(self, run: Run, site: SiteDirectory, versions: list[Version], tmp_path: Path) -> None:
        code, out, _ = run("adapters", "export", "active", tmp_path / "out", "--site", site.root)
        assert (code, out) == (0, f"Version {versions[1].id} was copied to {tmp_path / 'out'}.\n")
        source = site.adapters / versions[1].id
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()

    def test_it_never_overwrites(self, run: Run, site: SiteDirectory, tmp_path: Path) -> None:
        code, _, errors = run("adapters", "export", "active", tmp_path, "--site", site.root)
        assert code == 2
        assert "exists already" in errors
        assert "no adapter to export" in run("adapters", "export", "base", tmp_path / "out", "--site", site.root)[2]


@pytest.mark.parametrize("command", [("list",), ("show", "active"), ("activate", "base"), ("rollback",), ("export", "active", "out")])
def test_a_folder_that_is_no_site_is_refused_and_left_alone(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    code, out, errors = run("adapters", *command, "--site", tmp_path)
    assert (code, out) == (2, "")
    assert errors.startswith(f"fedsca: {tmp_path} is not a site directory")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/state/schedule.json")

    monkeypatch.setattr("fed_backend.cli.commands.root_command", lambda: SimpleNamespace(main=lambda **_: full()))
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == "fedsca: No space left on device: make room on the disk of /state/schedule.json, then give the command again.\n"
