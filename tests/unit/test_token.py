from __future__ import annotations

import json
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.token import new_token, retire_token, token
from schemas.merchants import MerchantsFileError, load_merchants

WITH_COMMENTS = """\
# the merchants of the east
[acme]  # our first
timezone = "Asia/Singapore" # no summer time

# made by hand
[[acme.tokens]]
id = "t-1"  # until June
sha256 = "{hash}"
created = 2026-01-02

[acme.fields]
conclusion = "callResult"

# quiet for now
[zed]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "merchants.toml"


@pytest.fixture
def commented(path: Path) -> Path:
    path.parent.mkdir()
    path.write_text(WITH_COMMENTS.format(hash="0" * 64))
    return path


def run(*arguments: str, **options: str) -> Result:
    return CliRunner().invoke(token, arguments, **options)


def test_a_token_has_256_bits_and_only_its_hash_is_kept(path: Path) -> None:
    before = datetime.now(UTC).date()
    secret = new_token(path, "demo", "Asia/Jakarta")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    merchant = load_merchants(path)["demo"]
    (kept,) = merchant.tokens
    assert kept.sha256 == sha256(secret.encode()).hexdigest()
    assert before <= kept.created <= datetime.now(UTC).date()
    assert merchant.timezone.key == "Asia/Jakarta"
    assert secret not in path.read_text()


def test_a_new_file_is_the_owners_alone_and_no_other_file_is_left(path: Path) -> None:
    new_token(path, "demo")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["merchants.toml"]


def test_a_file_keeps_its_mode_its_comments_and_everything_else(commented: Path) -> None:
    commented.chmod(0o640)
    new_token(commented, "acme", "Europe/Paris")
    new_token(commented, "zed")
    text = commented.read_text()
    for line in WITH_COMMENTS.format(hash="0" * 64).splitlines():
        assert line in text.splitlines()
    assert stat.S_IMODE(commented.stat().st_mode) == 0o640
    merchants = load_merchants(commented)
    assert [len(merchants[name].tokens) for name in ("acme", "zed")] == [2, 1]
    assert merchants["acme"].timezone.key == "Asia/Singapore"
    assert merchants["acme"].fields.conclusion == "callResult"


def test_the_file_is_replaced_and_a_link_to_it_stays_a_link(commented: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(commented)
    before = commented.open()
    new_token(link, "acme")
    assert link.is_symlink()
    assert len(load_merchants(commented)["acme"].tokens) == 2
    with before:
        assert before.read() == WITH_COMMENTS.format(hash="0" * 64)


@pytest.mark.parametrize("name", ["", "Demo", "a b", "a" * 64, "x/y", "é", "a\n"])
def test_a_name_that_no_merchant_can_have_is_refused_and_nothing_is_written(path: Path, name: str) -> None:
    with pytest.raises(MerchantsFileError, match="small letters"):
        new_token(path, name)
    assert run("new", "--file", f"{path}", "--", name).exit_code == 2
    assert not path.exists()


def test_a_broken_file_is_named_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("[acme\n")
    with pytest.raises(MerchantsFileError, match="not TOML"):
        new_token(path, "acme")
    result = run("new", "acme", "--file", f"{path}")
    assert (result.exit_code, path.read_text()) == (1, "[acme\n")
    assert "not TOML" in result.output
    assert [each.name for each in path.parent.iterdir()] == ["merchants.toml"]


def test_no_token_gets_lost_when_many_are_made_at_once(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: new_token(path, "demo"), range(24)))
    kept = load_merchants(path)["demo"].tokens
    assert {each.sha256 for each in kept} == {sha256(each.encode()).hexdigest() for each in made}
    assert len({each.id for each in kept}) == 24


def test_retiring_takes_out_one_token_and_leaves_the_rest(commented: Path) -> None:
    secret = new_token(commented, "acme")
    assert retire_token(commented, "acme", "t-1")
    assert [each.sha256 for each in load_merchants(commented)["acme"].tokens] == [sha256(secret.encode()).hexdigest()]
    assert "# the merchants of the east" in commented.read_text()
    assert not retire_token(commented, "acme", "t-1")
    assert not retire_token(commented, "nobody", "t-1")


def test_after_the_last_one_is_retired_a_new_one_can_be_made(commented: Path) -> None:
    assert retire_token(commented, "acme", "t-1")
    assert load_merchants(commented)["acme"].tokens == ()
    new_token(commented, "acme")
    assert len(load_merchants(commented)["acme"].tokens) == 1


def test_the_command_shows_token_and_path_once(path: Path) -> None:
    result = run("new", "demo", "--file", f"{path}", "--timezone", "Asia/Dubai")
    assert result.exit_code == 0, result.output
    found = re.search(r"/callbacks/([\w-]{43})", result.output)
    assert found
    (kept,) = load_merchants(path)["demo"].tokens
    assert kept.sha256 == sha256(found[1].encode()).hexdigest()
    listed = run("list", "demo", "--file", f"{path}")
    assert kept.id in listed.output
    assert f"{kept.created}" in listed.output
    assert found[1] not in listed.output
    assert kept.sha256 not in listed.output


def test_the_command_reads_the_receivers_own_setting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_MERCHANTS_FILE", os.fspath(path))
    assert run("new", "demo").exit_code == 0
    assert "demo" in load_merchants(path)


def test_the_last_token_is_retired_only_when_it_is_meant(commented: Path) -> None:
    assert run("retire", "acme", "t-1", "--file", f"{commented}", input="n\n").exit_code == 1
    assert len(load_merchants(commented)["acme"].tokens) == 1
    assert run("retire", "acme", "t-1", "--file", f"{commented}", "--yes").exit_code == 0
    assert load_merchants(commented)["acme"].tokens == ()


def test_what_is_not_there_is_said_so(commented: Path) -> None:
    result = run("retire", "acme", "t-9", "--file", f"{commented}")
    assert (result.exit_code, "no token t-9" in result.output) == (1, True)
    result = run("list", "nobody", "--file", f"{commented}")
    assert (result.exit_code, "no merchant nobody" in result.output) == (1, True)
    result = run("new", "acme", "--file", f"{commented}", "--timezone", "Mars/Olympus")
    assert (result.exit_code, "no time zone" in result.output) == (2, True)


def test_every_command_says_it_in_json_too(tmp_path: Path) -> None:
    file = ("--file", f"{tmp_path / 'merchants.toml'}", "--json")
    made = json.loads(run("new", "acme", *file).stdout)
    assert made["path"] == f"/callbacks/{made['token']}"
    assert [one["id"] for one in json.loads(run("list", "acme", *file).stdout)] == [made["id"]]
    assert json.loads(run("retire", "acme", made["id"], "--yes", *file).stdout)["retired"] is True
    assert json.loads(run("list", "acme", *file).stdout) == []
