from __future__ import annotations

import asyncio
import hmac
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from receiver import files
from receiver import tokens as tokens_module
from receiver.tokens import Tokens
from schemas.merchants import MerchantsFileError
from tests.unit.receivers import OTHER_TOKEN, TOKEN, WRONG_TOKEN, merchants, until


def file(tmp_path: Path, *tokens: tuple[str, str, str]) -> Path:
    path = tmp_path / "merchants.toml"
    path.write_text(merchants(*tokens))
    return path


def matched(tokens: Tokens, token: str) -> tuple[str, str] | None:
    found = tokens.match("POST", f"/callbacks/{token}")
    return (found.merchant, found.token_id) if found else None


def test_each_token_names_its_merchant_and_two_may_be_active(tmp_path: Path) -> None:
    tokens = Tokens(file(tmp_path, ("demo", "old", TOKEN), ("demo", "new", OTHER_TOKEN), ("acme", "t", "x" * 43)))
    assert matched(tokens, TOKEN) == ("demo", "old")
    assert matched(tokens, OTHER_TOKEN) == ("demo", "new")
    assert matched(tokens, "x" * 43) == ("acme", "t")
    assert matched(tokens, WRONG_TOKEN) is None
    assert matched(tokens, "") is None


@pytest.mark.parametrize("method", ["GET", "PUT", "post", "HEAD"])
def test_only_post_is_a_callback(tmp_path: Path, method: str) -> None:
    tokens = Tokens(file(tmp_path, ("demo", "t", TOKEN)))
    assert tokens.match(method, f"/callbacks/{TOKEN}") is None


@pytest.mark.parametrize("path", [TOKEN, f"/{TOKEN}", f"/callback/{TOKEN}", f"/callbacks//{TOKEN}", "", "\udcff\udcfe"])
def test_only_the_whole_path_is_a_callback(tmp_path: Path, path: str) -> None:
    assert Tokens(file(tmp_path, ("demo", "t", TOKEN))).match("POST", path) is None


def test_every_active_token_is_compared_whatever_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(file(tmp_path, ("demo", "a", TOKEN), ("demo", "b", OTHER_TOKEN), ("acme", "c", "x" * 43)))
    compared = 0

    def counting(one: bytes, other: bytes) -> bool:
        nonlocal compared
        compared += 1
        return hmac.compare_digest(one, other)

    class Counting:
        compare_digest = staticmethod(counting)

    monkeypatch.setattr(tokens_module, "hmac", Counting)
    for method, path in [("POST", f"/callbacks/{TOKEN}"), ("POST", "/callbacks/x"), ("GET", "/"), ("POST", "")]:
        compared = 0
        tokens.match(method, path)
        assert compared == 3, (method, path)


def test_there_has_to_be_a_file_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(MerchantsFileError):
        Tokens(tmp_path / "none.toml")


def test_a_reload_takes_and_retires_tokens_and_remembers_who_was_seen(tmp_path: Path) -> None:
    path = file(tmp_path, ("demo", "old", TOKEN))
    tokens = Tokens(path)
    found = tokens.match("POST", f"/callbacks/{TOKEN}")
    assert found
    found.last_seen_s = 123.0
    path.write_text(merchants(("demo", "old", TOKEN), ("demo", "new", OTHER_TOKEN)))
    tokens.reload()
    assert {token.token_id: token.last_seen_s for token in tokens.active} == {"old": 123.0, "new": 0.0}
    path.write_text(merchants(("demo", "new", OTHER_TOKEN)))
    tokens.reload()
    assert matched(tokens, TOKEN) is None
    assert matched(tokens, OTHER_TOKEN) == ("demo", "new")


@pytest.mark.parametrize("broken", ["[demo", "[demo]\ntokens = 3", '[demo]\nzone = "x"', None])
def test_a_broken_file_keeps_the_old_tokens_and_says_so(tmp_path: Path, broken: str | None) -> None:
    path = file(tmp_path, ("demo", "t", TOKEN))
    tokens = Tokens(path)
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    with capture_logs() as logs:
        tokens.reload()
    assert matched(tokens, TOKEN) == ("demo", "t")
    assert not tokens.file_ok
    assert [line["event"] for line in logs] == ["merchants_file_broken"]
    path.write_text(merchants(("demo", "t", TOKEN)))
    tokens.reload()
    assert tokens.file_ok


async def test_a_change_is_seen_without_a_signal_and_a_broken_file_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_LOOK_S", 0.01)
    path = file(tmp_path, ("demo", "t", TOKEN))
    tokens = Tokens(path)
    following = asyncio.create_task(tokens.follow())
    replacement = tmp_path / "new.toml"
    replacement.write_text(merchants(("demo", "t2", OTHER_TOKEN)))
    replacement.replace(path)
    await until(lambda: matched(tokens, OTHER_TOKEN))
    with capture_logs() as logs:
        path.write_text("[demo")
        await until(lambda: not tokens.file_ok)
        assert matched(tokens, OTHER_TOKEN)
        path.write_text(merchants(("demo", "t3", WRONG_TOKEN)))
        await until(lambda: matched(tokens, WRONG_TOKEN))
    assert [line["event"] for line in logs] == ["merchants_file_broken", "merchants_file_read"]
    following.cancel()
    await asyncio.wait((following,))
