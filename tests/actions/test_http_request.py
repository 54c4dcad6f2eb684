"""Paths of `http.request`: nothing leads away from the configured host."""

from __future__ import annotations

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions import HttpHost, load_actions
from engine.actions.http_request import _url

ACTION = load_actions()["http.request"]


@pytest.mark.parametrize(
    "path",
    ["/", "/a", "/api/admin/blocklist", "/a?b=c&d=%20e", "/a%2Fb", "/v1/x:y@z", "/a.b/..c", "/a?next=/b", "/%C3%BC"],
)
def test_a_path_below_the_host_is_taken(path: str) -> None:
    ACTION.decode_params({"method": "GET", "path": path})


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "//other/x",
        "http://other/x",
        "/../x",
        "/a/../../x",
        "/a/..",
        "/a/%2e%2e/x",
        "/a/%2E./x",
        "/a/%252e%252e/x",
        "/a%2f..%2fx",
        "/a\\..\\x",
        "/a%5c..%5cx",
        "/.",
        "/a/%2e/x",
        "/a\r\nHost: other",
        "/a%0d%0aX: y",
        "/a%00",
        "/a b",
        "/a#b",
        "/ü",
        "/{x}",
        "@other/x",
        ":80@other/x",
        ".other/x",
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="path"):
        ACTION.decode_params({"method": "GET", "path": path})


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h", "http://h/a?b=c"),
        ("http://h/", "http://h/a?b=c"),
        ("http://h:8080/base/", "http://h:8080/base/a?b=c"),
        ("https://[::1]:9/x", "https://[::1]:9/x/a?b=c"),
    ],
)
def test_the_path_goes_below_the_base(base: str, url: str) -> None:
    assert str(_url(HttpHost(base), "/a?b=c")) == url


@given(st.text(max_size=30).map(lambda tail: f"/{tail}"))
def test_whatever_path_is_taken_stays_on_the_host_and_below_its_base(path: str) -> None:
    try:
        ACTION.decode_params({"method": "GET", "path": path})
    except msgspec.ValidationError:
        return
    url = _url(HttpHost("http://host.example:81/base"), path)
    assert (url.host, url.port) == ("host.example", 81)
    assert httpx.URL(str(url)).path.startswith("/base/")
