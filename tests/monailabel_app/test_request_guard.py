"""Names and parameters that a request may carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monailabel_app.app_errors import RequestError
from monailabel_app.request_guard import (
    check_path,
    check_query,
    checked_case_id,
    checked_parameters,
    checked_session_id,
    checked_tag,
)

BAD_CASES = ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "..\\x", ".hidden", "nul\0", "line\n", "x" * 201, "é" * 101, "\u202ecase"]


@pytest.mark.parametrize("text", ["c1_003_1", "Case 7 (left)", "1.2.840.113619", "Ärztin", "x" * 200, "a..b"])
def test_names_of_cases_are_taken(text: str) -> None:
    assert checked_case_id(text) == text


@pytest.mark.parametrize("text", BAD_CASES)
def test_what_cannot_be_a_case_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="cannot be used"):
        checked_case_id(text)


@pytest.mark.parametrize("text", ["final", "original", "version_2", "a.b-c"])
def test_tags_are_taken(text: str) -> None:
    assert checked_tag(text) == text


@pytest.mark.parametrize("text", ["", "..", "../x", "../../x", "a/b", "/tmp", "a\\b", ".x", "x" * 65, "a b", "a\0"])
def test_what_cannot_be_a_tag_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="tag"):
        checked_tag(text)


@pytest.mark.parametrize("text", ["..", "../x", "a/b", "", "x" * 65, ".", "a_b"])
def test_what_cannot_be_a_session_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="Session"):
        checked_session_id(text)


@given(st.text(max_size=300))
def test_a_case_that_is_taken_stays_in_its_folder(text: str) -> None:
    try:
        name = checked_case_id(text)
    except RequestError:
        return
    assert "/" not in name
    assert name not in (".", "..")
    assert len((name + ".seg.nrrd").encode()) <= 255


def test_params_are_an_object_without_reserved_keys() -> None:
    assert checked_parameters('{"foreground": [[1, 2, 3]]}') == {"foreground": [[1, 2, 3]]}
    assert checked_parameters("") == {}
    for text in ("[]", "3", "{", '{"x": NaN}', '{"x": -Infinity}', "[" * 100_000):
        with pytest.raises(RequestError):
            checked_parameters(text)
    for text in ('{"x": 1e999}', '{"x": ["\\ud800"]}', '{"\\udfff": 1}', '{"x": ' + "[" * 40 + "]" * 40 + "}"):
        with pytest.raises(RequestError, match="params"):
            checked_parameters(text)
    assert checked_parameters('{"x": "\\ud83d\\ude00"}') == {"x": "\N{GRINNING FACE}"}
    for key in ("image", "session_id", "model", "bundle_path"):
        with pytest.raises(RequestError, match=key):
            checked_parameters(f'{{"{key}": "/etc/passwd"}}')


@pytest.mark.parametrize("path", ["/infer/sam", "/", "/datastore/image/info", "/session/0a-1b", "/session/", "/ohif/a/b.js"])
def test_ordinary_paths_pass(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", ["/session/..", "/session/../x", "/a/./b", "/infer/a\\b", "/x\0", "/" + "y" * 256, "/session/a_b"])
def test_climbing_paths_are_refused(path: str) -> None:
    with pytest.raises(RequestError):
        check_path(path)


@pytest.mark.parametrize(
    "query",
    [
        b"image=../x",
        b"image=%2e%2e%2fx",
        b"tag=..%2F..%2Fx",
        b"id=/etc/x",
        b"label=a%5Cb",
        b"session_id=..",
        b"a=1&image=%00",
    ],
)
def test_bad_queries_are_refused(query: bytes) -> None:
    with pytest.raises(RequestError):
        check_query(query)


def test_ordinary_and_empty_queries_pass() -> None:
    check_query(b"image=c1_003_1&tag=final&output=all&session_id=&uncompress=false")
    check_query(b"")
