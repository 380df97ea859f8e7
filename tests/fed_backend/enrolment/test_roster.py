"""Who is let in, and how the SuperLink is brought in line with it."""

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from fed_backend import launch
from fed_backend.enrolment import roster
from fed_backend.enrolment.node_keys import PublicKeys
from fed_backend.enrolment.roster import Entry, Roster
from fed_backend.enrolment.superlink_nodes import Node, Plan, SuperLinkNodes, plan, run_command
from fed_backend.errors import EnrolmentError, RoundError
from sam_adapters.errors import SettingError
from tests.fed_backend.enrolment.people import new_site

DAY = "2026-03-01T12:00:00+00:00"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[PublicKeys]:
    folder = tmp_path_factory.mktemp("sites")
    return [new_site(folder / name, name)[1].keys for name in "ABC"]


def pem(keys: PublicKeys) -> str:
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    return keys.node_key().public_bytes(serialization.Encoding.PEM, public).decode()


def test_approving_twice_is_approving_once(keys: list[PublicKeys]) -> None:
    known = Roster()
    first = known.approve("A", keys[0], DAY)
    assert known.approve("A", keys[0], "2026-04-01T00:00:00+00:00") == first
    assert known.members() == [first]
    assert [known.count_bundle("A").bundles, known.count_bundle("A").bundles] == [1, 2]


def test_names_and_keys_belong_to_one_member(keys: list[PublicKeys]) -> None:
    known = Roster()
    known.approve("A", keys[0], DAY)
    with pytest.raises(EnrolmentError, match="A is a member already, with other keys"):
        known.approve("A", keys[1], DAY)
    with pytest.raises(EnrolmentError, match="is in already, as A"):
        known.approve("B", keys[0], DAY)
    with pytest.raises(EnrolmentError, match="is in already, as A"):
        known.approve("A", PublicKeys(keys[0].node, keys[1].sealing), DAY)
    with pytest.raises(SettingError):
        known.approve("no name", keys[1], DAY)
    with pytest.raises(EnrolmentError, match="'B' is no member: members are A"):
        known.revoke("B", DAY, "")
    with pytest.raises(EnrolmentError, match="no member"):
        known.count_bundle("B")


def test_revoked_keys_never_come_back_but_their_site_may(keys: list[PublicKeys]) -> None:
    known = Roster()
    known.approve("A", keys[0], DAY)
    known.revoke("A", DAY, "Left.")
    assert known.members() == []
    with pytest.raises(EnrolmentError, match=r"revoked on 2026-03-01 and are never let in again.*--new-keys"):
        known.approve("A", keys[0], DAY)
    known.approve("A", keys[1], DAY)
    known.approve("A", keys[2], DAY, replace=True)
    assert [(entry.node_key == keys[2].node, entry.reason) for entry in known.entries] == [
        (False, "Left."),
        (False, "Replaced by new keys."),
        (True, ""),
    ]


def test_what_is_changed_is_kept_unless_the_change_fails(tmp_path: Path, keys: list[PublicKeys]) -> None:
    with roster.editing(tmp_path) as edited:
        edited.approve("A", keys[0], DAY)

    def change_and_fail() -> None:
        with roster.editing(tmp_path) as edited:
            edited.revoke("A", DAY, "By mistake.")
            edited.approve("A", keys[0], DAY)

    with pytest.raises(EnrolmentError):
        change_and_fail()
    assert [entry.name for entry in roster.load(tmp_path).members()] == ["A"]


def test_a_roster_that_cannot_be_read_lets_nobody_in_and_throws_nobody_out(tmp_path: Path) -> None:
    assert roster.load(tmp_path).entries == []
    for text in ("", "[]", '{"format": 2, "entries": []}', '{"format": 1, "entries": [{"name": "A"}]}', '{"format": 1, "entr'):
        (tmp_path / "roster.json").write_text(text, encoding="utf-8")
        with pytest.raises(EnrolmentError, match="backup"):
            roster.load(tmp_path)
        ran: list[Sequence[str]] = []
        launch.ServerAddress("127.0.0.1:1").save(tmp_path)
        with pytest.raises(EnrolmentError, match="backup"):
            SuperLinkNodes(tmp_path, FakeSuperLink([], ran)).synchronise()
        assert ran == []


def _approve(state: Path, name: str, keys: PublicKeys) -> None:
    with roster.editing(state) as edited:
        edited.approve(name, keys, DAY)


def test_two_operators_at_once_lose_nothing(tmp_path: Path, keys: list[PublicKeys]) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_approve, args=(tmp_path, name, one)) for name, one in zip("ABC", keys, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(entry.name for entry in roster.load(tmp_path).members()) == ["A", "B", "C"]


def entry(name: str, keys: PublicKeys, revoked: str = "") -> Entry:
    return Entry(name, keys.node, keys.sealing, DAY, revoked=revoked)


def test_the_plan_registers_who_is_missing_and_removes_who_does_not_belong(keys: list[PublicKeys]) -> None:
    known = Roster([entry("A", keys[0]), entry("B", keys[1]), entry("C", keys[2], revoked=DAY)])
    nodes = [Node("1", "A", pem(keys[0]), "online"), Node("3", "C", pem(keys[2]), "offline"), Node("4", "", "rubbish", "registered")]
    todo = plan(known, nodes)
    assert [one.name for one in todo.register] == ["B"]
    assert [node.id for node in todo.remove] == ["3", "4"]
    assert todo.refused == []


def test_in_line_means_nothing_to_do(keys: list[PublicKeys]) -> None:
    known = Roster([entry("A", keys[0]), entry("C", keys[2], revoked=DAY)])
    assert plan(known, [Node("1", "A", pem(keys[0]), "registered"), Node("3", "C", pem(keys[2]), "unregistered")]) == Plan([], [], [])


def test_keys_that_the_superlink_removed_once_are_told_not_tried(keys: list[PublicKeys]) -> None:
    todo = plan(Roster([entry("A", keys[0])]), [Node("1", "A", pem(keys[0]), "unregistered")])
    assert (todo.register, [one.name for one in todo.refused]) == ([], ["A"])
    assert "Flower takes no key twice" in todo.sentences[0]


def test_an_approved_key_under_a_wrong_name_is_not_let_speak(keys: list[PublicKeys]) -> None:
    todo = plan(Roster([entry("A", keys[0])]), [Node("1", "B", pem(keys[0]), "online")])
    assert [node.id for node in todo.remove] == ["1"]


class FakeSuperLink:
    """Answers commands as `flwr` does, on a list of nodes; may fail after some."""

    def __init__(self, nodes: list[dict[str, Any]], ran: list[Sequence[str]], fail_at: int = 99) -> None:
        self.nodes, self.ran, self.fail_at = nodes, ran, fail_at

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str]) -> str:
        if "fed_backend.enrolment.list_nodes" in argv:
            return "Using SuperLink: federation\n" + json.dumps(self.nodes) + "\n"
        self.ran.append(argv)
        if len(self.ran) == self.fail_at:
            raise RoundError("Killed.")
        if argv[2] == "register":
            key = Path(argv[3]).read_text(encoding="utf-8").strip()
            node = {"id": str(len(self.nodes)), "name": argv[-1], "public_key": pem(PublicKeys(key, "")), "status": "registered"}
            self.nodes.append(node)
        else:
            next(node for node in self.nodes if node["id"] == argv[3])["status"] = "unregistered"
        return ""


def test_an_interrupted_synchronisation_is_finished_by_the_next(tmp_path: Path, keys: list[PublicKeys]) -> None:
    launch.ServerAddress("127.0.0.1:1").save(tmp_path)
    with roster.editing(tmp_path) as edited:
        for name, one in zip("ABC", keys, strict=True):
            edited.approve(name, one, DAY)
        edited.revoke("C", DAY, "Left.")
    nodes = [{"id": "0", "name": "C", "public_key": pem(keys[2]), "status": "online"}]
    ran: list[Sequence[str]] = []
    with pytest.raises(RoundError, match="Killed"):
        SuperLinkNodes(tmp_path, FakeSuperLink(nodes, ran, fail_at=3)).synchronise()
    assert [(node["name"], node["status"]) for node in nodes] == [("C", "unregistered"), ("A", "registered")]
    ran.clear()
    done = SuperLinkNodes(tmp_path, FakeSuperLink(nodes, ran)).synchronise()
    assert done.sentences == ["Site B is let in."]
    assert [argv[2] for argv in ran] == ["register"]
    assert SuperLinkNodes(tmp_path, FakeSuperLink(nodes, ran)).synchronise().sentences == []


def test_a_silent_or_unreadable_superlink_is_an_error(tmp_path: Path) -> None:
    assert not SuperLinkNodes(tmp_path).answers()
    launch.ServerAddress(f"127.0.0.1:{launch.free_port()}").save(tmp_path)
    with pytest.raises(RoundError, match="does not answer after 0 s"):
        SuperLinkNodes(tmp_path).when_up(0)
    for output in ("", "no JSON", '[{"id": "1"}]'):
        with pytest.raises(RoundError, match="list of nodes cannot be read"):
            SuperLinkNodes(tmp_path, lambda argv, environment, output=output: output).list()


def test_a_failing_command_is_told_with_its_last_words() -> None:
    with pytest.raises(RoundError, match="ended with code 3: it was this"):
        run_command(["/bin/sh", "-c", "echo it was this; exit 3"], {})
