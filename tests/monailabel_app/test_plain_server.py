"""Plain `monailabel start_server`: what is safe there without flags, and MONAI Label's own login against a realm."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI

from monailabel_app import door
from sam_adapters.errors import SettingError
from sam_adapters.site_directory import SiteDirectory
from tests.monailabel_app.fake_realm import PHRASE, FakeRealm, new_key, running_realm
from tests.monailabel_app.server_process import Server, running_server, write_volume

STRANGER = {"Origin": "https://evil.example"}


@dataclass
class Scene:
    """A server with MONAI_LABEL_AUTH_ENABLE, and the realm it asks."""

    server: Server
    realm: FakeRealm

    def status(self, token: str, path: str = "/info/", method: str = "GET") -> int:
        return self.server.request(method, path, headers={"Authorization": f"Bearer {token}"}).status_code


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("plain")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    write_volume(studies / "case.nii.gz", seed=1)
    conf = {"image_size": "64", "uncertainty": "false", "tune": "false"}
    with running_realm() as realm, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_AUTH_ENABLE", "true")
        patch.setenv("MONAI_LABEL_AUTH_REALM_URI", realm.url)
        patch.setenv("FEDSCA_ORIGINS", '["https://viewer.example"]')
        with running_server(folder, studies, conf, ready="/auth/") as server:
            yield Scene(server, realm)


def test_the_realm_is_named_to_clients(scene: Scene) -> None:
    assert scene.server.get("/auth/").json() == {"enabled": True, "client_id": "monailabel-app", "realm": scene.realm.url}


def test_a_password_becomes_a_token_that_lets_in(scene: Scene) -> None:
    form = {"username": "anna", "password": PHRASE, "grant_type": "password"}
    reply = scene.server.request("POST", "/auth/token", data=form)
    assert reply.status_code == 200
    token = reply.json()["access_token"]
    assert scene.status(token) == 200
    assert scene.status(token, "/fedsca/status") == 200
    who = scene.server.get("/auth/token/valid", headers={"Authorization": f"bearer {token}"}).json()
    assert (who["username"], who["name"], who["roles"]) == ("anna", "Anna A.", ["monailabel-user", "monailabel-annotator"])
    refused = scene.server.request("POST", "/auth/token", data={**form, "password": "wrong"})
    assert (refused.status_code, refused.json()["detail"]) == (401, "User name or password is not right.")


def test_only_sound_tokens_let_in(scene: Scene) -> None:
    realm = scene.realm
    assert scene.status(realm.token()) == 200
    forged = {
        "expired": realm.token(exp=1_700_000_000),
        "unsigned": realm.token(key="", algorithm="none"),
        "another key": realm.token(key=new_key()),
        "public key as secret": realm.token(key=b"0" * 32 + realm.public_pem().replace(b"-", b""), algorithm="HS256"),
    }
    assert {what: scene.status(token) for what, token in forged.items()} == dict.fromkeys(forged, 401)


def test_roles_of_the_realm_hold(scene: Scene) -> None:
    nobody, user = scene.realm.token(realm_access={"roles": []}), scene.realm.token(realm_access={"roles": ["monailabel-user"]})
    assert (scene.status(nobody), scene.status(user)) == (403, 200)
    assert scene.status(user, "/fedsca/adapters/base/activate", "POST") == 403
    assert scene.status(scene.realm.token(realm_access={"roles": ["monailabel-admin"]}), "/fedsca/adapters/base/activate", "POST") == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/static/ohif/index.html", "/info/", "/fedsca/status", "/logs/"])
def test_nothing_is_open_without_a_token(scene: Scene, path: str) -> None:
    assert scene.server.get(path).status_code == 401


def test_origins_are_listed_and_not_reflected(scene: Scene) -> None:
    headers = {"Authorization": f"Bearer {scene.realm.token()}"}
    assert "Access-Control-Allow-Origin" not in scene.server.get("/info/", headers={**headers, **STRANGER}).headers
    listed = scene.server.get("/info/", headers={**headers, "Origin": "https://viewer.example"})
    assert listed.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
    assert scene.server.request("POST", "/train/sam", headers={**headers, **STRANGER}).status_code == 403


def test_a_user_file_without_login_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSCA_USERS", str(tmp_path / "users.json"))
    with pytest.raises(SettingError, match="FEDSCA_USERS names a user file, but MONAI_LABEL_AUTH_ENABLE is not true"):
        door.install(FastAPI(), SiteDirectory.open(tmp_path / "site"))
