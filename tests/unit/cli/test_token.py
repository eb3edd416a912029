"""`pixelserve token new`, and the token of the other commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve.tokens import Scope, Token, digest_of, parse_tokens


def test_a_tokens_line_goes_to_stdout_and_the_token_to_stderr_alone(run: Callable[..., Any]) -> None:
    ran = run("token", "new", "--scope", "infer", "--name", "shop")
    assert ran.code == 0
    secret = ran.err.removesuffix("\n")
    assert len(secret) == 46
    assert parse_tokens(ran.out) == (Token(digest_of(secret), "shop", frozenset({Scope.INFER})),)
    assert secret not in ran.out
    assert run("token", "new", "--scope", "infer", "--name", "shop").err != ran.err


def test_json_has_both(run: Callable[..., Any]) -> None:
    ran = run(
        *("token", "new", "--scope", "infer,observe", "--scope", "control", "--model", "my model", "--model", "a,b"),
        *("--rate", "0.5", "--json"),
    )
    assert (ran.code, ran.err) == (0, "")
    made = json.loads(ran.out)
    (token,) = parse_tokens(made["line"] + "\n")
    digest = digest_of(made["token"])
    assert token == Token(digest, f"token-{digest[:8]}", frozenset(Scope), frozenset({"my model", "a,b"}), 0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--scope"),
        (["--scope", ""], "scopes is empty"),
        (["--scope", "admin"], 'scope "admin" is unknown; expected some of infer, observe, control'),
        (["--scope", "infer", "--name", "my shop"], 'name is "my shop"'),
        (["--scope", "infer", "--name", ""], 'name is ""'),
        (["--scope", "infer", "--model", ""], "--model is empty"),
        (["--scope", "infer", "--rate", "fast"], 'rate is "fast"'),
        (["--scope", "infer", "--rate", "0"], 'rate is "0"'),
        (["--scope", "infer", "--rate", "-1"], 'rate is "-1"'),
    ],
)
def test_a_wrong_option_is_named_and_nothing_printed(run: Callable[..., Any], arguments: list[str], said: str) -> None:
    ran = run("token", "new", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "ps_" not in ran.err


def classify(folder: Path) -> tuple[object, ...]:
    (folder / "a.png").write_text("4")
    return "classify", folder / "a.png", "--model", "digits"


@pytest.mark.parametrize("content", ["secret", "secret\n", "  secret \r\n\r\n", "\ufeffsecret\n"])
def test_a_token_may_be_in_a_file(ask: Callable[..., Any], fake: Any, tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    assert ask(*classify(tmp_path), "--token-file", file).code == 0
    assert fake.metadata[-1]["authorization"] == "Bearer secret"


def test_variables_name_the_token_and_its_file(
    ask: Callable[..., Any], fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from-the-file\n")
    monkeypatch.setenv("PIXELSERVE_TOKEN_FILE", str(tmp_path / "token"))
    assert ask(*classify(tmp_path)).code == 0
    assert fake.metadata[-1]["authorization"] == "Bearer from-the-file"
    monkeypatch.setenv("PIXELSERVE_TOKEN", "from-the-variable")
    ran = ask(*classify(tmp_path))
    assert ran.code == 2
    assert "--token-file and --token (or PIXELSERVE_TOKEN) exclude each other" in ran.err
    monkeypatch.delenv("PIXELSERVE_TOKEN_FILE")
    assert ask(*classify(tmp_path)).code == 0
    assert fake.metadata[-1]["authorization"] == "Bearer from-the-variable"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "holds 0 lines; expected one, the token"),
        (b"one\ntwo\n", "holds 2 lines; expected one, the token"),
        (b"\xff\xfe\xfd", "not text"),
        (b"se cret\n", "token must be printable ASCII without spaces"),
        ("schlüssel\n".encode(), "token must be printable ASCII without spaces"),
    ],
)
def test_a_file_without_a_token_is_named_and_not_shown(
    ask: Callable[..., Any], tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    ran = ask("health", "--token-file", file)
    assert ran.code == 2
    assert said in ran.err
    assert not [word for word in ("se cret", "schlüssel", "two\n") if word in ran.err]


def test_a_token_is_sent_readable_to_another_machine_only_if_that_is_said(run: Callable[..., Any]) -> None:
    # A documentation address, which no host has; the time limit passes before any answer.
    where = ("--address", "192.0.2.1:8001", "--token", "secret", "--timeout-s", "0.05")
    ran = run("health", *where)
    assert ran.code == 2
    assert "use TLS with tls=Tls() (--tls)" in ran.err
    assert "secret" not in ran.err
    assert run("health", *where, "--token-over-plain-text").code == 5
