"""Access tokens and the file of their digests."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelserve.tokens import Scope, Token, TokensError, digest_of, new_token, parse_tokens

DIGEST = digest_of("ps_first")
OTHER = digest_of("ps_second")
INFER = frozenset({Scope.INFER})


def test_a_new_token_has_256_random_bits_and_fits_into_a_header() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 46 and token.startswith("ps_") and token.isascii() for token in tokens)
    assert not [token for token in tokens if set(token) & set(" \"'$\\,;=/+")]


def test_a_digest_is_what_sha256sum_prints() -> None:
    assert digest_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of("abc") == hashlib.sha256(b"abc").hexdigest()


def test_a_file_has_a_token_a_line_and_comments_and_blank_lines() -> None:
    text = f"""
# The shop, until 2027.
{DIGEST} name=shop scopes=infer,observe models=mnist-cnn,mnist-mlp rate=0.5

  \t{OTHER.upper()}\tscopes=control   name=ops@example.org
"""
    assert parse_tokens(text) == (
        Token(DIGEST, "shop", frozenset({Scope.INFER, Scope.OBSERVE}), frozenset({"mnist-cnn", "mnist-mlp"}), 0.5),
        Token(OTHER, "ops@example.org", frozenset({Scope.CONTROL})),
    )


@given(
    st.sets(st.sampled_from(Scope), min_size=1),
    st.none()
    | st.sets(st.text(min_size=1).filter(lambda name: name.encode(errors="replace").decode() == name), min_size=1),
    st.none() | st.integers(1, 10**6).map(lambda millionths: millionths / 1000),
)
def test_a_tokens_line_says_the_token(scopes: set[Scope], models: set[str] | None, rate: float | None) -> None:
    token = Token(DIGEST, "shop", frozenset(scopes), None if models is None else frozenset(models), rate)
    assert parse_tokens(token.line() + "\n") == (token,)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shop scopes=infer", "begins with 4 characters; expected a SHA-256 digest"),
        (f"{DIGEST[:-1]} name=shop scopes=infer", "begins with 63 characters; expected a SHA-256 digest"),
        (f"{DIGEST[:-1]}g name=shop scopes=infer", "expected a SHA-256 digest: 64 hexadecimal digits"),
        (f"{DIGEST[:-1]}٣ name=shop scopes=infer", "expected a SHA-256 digest: 64 hexadecimal digits"),
        (f"sha256:{DIGEST} name=shop scopes=infer", "expected a SHA-256 digest"),
        (f"name=shop {DIGEST} scopes=infer", "expected a SHA-256 digest"),
        (DIGEST, r"no name=…; expected DIGEST name=NAME scopes=SCOPE,SCOPE"),
        (f"{DIGEST} name=shop", "no scopes=…"),
        (f"{DIGEST} scopes=infer", "no name=…"),
        (f"{DIGEST} name=shop scopes=", "scopes is empty; expected some of infer, observe, control"),
        (f"{DIGEST} name=shop scopes=infer,", "an empty one"),
        (f"{DIGEST} name=shop scopes=admin", 'scope "admin" is unknown; expected some of infer, observe, control'),
        (f"{DIGEST} name=shop scopes=Infer", 'scope "Infer" is unknown'),
        (f"{DIGEST} name=shop scopes=infer scopes=control", "scopes= twice"),
        (f"{DIGEST} name=shop scope=infer", 'the field "scope="; expected name=…, scopes=…, models=…, rate=…'),
        (f"{DIGEST} name=shop scopes=infer # the shop", "something that is not a field"),
        (f"{DIGEST} name=shop scopes=infer rate", "something that is not a field"),
        (f"{DIGEST} hunter2 name=shop scopes=infer", "has something that is not a field"),
        (f"{DIGEST} name= scopes=infer", 'name is ""; expected 1 to 64'),
        (f"{DIGEST} name=my,shop scopes=infer", 'name is "my,shop"'),
        (f"{DIGEST} name={'n' * 65} scopes=infer", "name is 65 other characters"),
        (f"{DIGEST} name=shop scopes=infer models=", "an empty name"),
        (f"{DIGEST} name=shop scopes=infer models=a,,b", "an empty name"),
        *(
            (f"{DIGEST} name=shop scopes=infer rate={rate}", "rate is .*; expected requests per second, more than 0")
            for rate in ("0", "0.0", "-1", "nan", "inf", "1e3", "", "many", "١٠", "1_000", "0x10", "1000000000000")
        ),
        # A missing token's digest is not secret, but a value mistaken for one may be.
        ("ps_not-a-real-token name=shop scopes=infer", "begins with a token; expected its digest"),
        (f"{DIGEST} name={new_token()} scopes=infer", "name= holds a token"),
    ],
)
def test_a_wrong_line_is_named_with_what_was_expected_and_shows_no_secret(line: str, said: str) -> None:
    with pytest.raises(TokensError, match=f"^line 3: .*{said}") as caught:
        parse_tokens(f"# one\n{OTHER} name=good scopes=infer\n{line}\n")
    assert "ps_" not in str(caught.value)
    assert DIGEST[:16] not in str(caught.value)


def test_a_digest_is_there_once() -> None:
    line = f"{DIGEST} name=a scopes=infer\n"
    with pytest.raises(TokensError, match=r"^line 3: has the digest of line 1 again"):
        parse_tokens(line + "\n" + line.replace(DIGEST, DIGEST.upper()))


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody\n"])
def test_a_file_without_tokens_is_refused(text: str) -> None:
    with pytest.raises(TokensError, match="no tokens; add the line that `pixelserve token new --scope infer` prints"):
        parse_tokens(text)


def test_a_file_that_is_cut_inside_a_line_is_never_accepted() -> None:
    first = f"{OTHER} name=first scopes=infer\n"
    last = f"{DIGEST} name=last scopes=infer,observe models=mnist-cnn,mnist-mlp rate=100\n"
    for length in range(1, len(last)):
        with pytest.raises(TokensError, match="no line end, so the file may be incomplete"):
            parse_tokens(first + last[:length])
    assert len(parse_tokens(first + last)) == 2


def test_there_is_a_limit_to_tokens() -> None:
    lines = [f"{number:064x} name=n scopes=infer" for number in range(10_001)]
    assert len(parse_tokens("\n".join(lines[:-1]) + "\n")) == 10_000
    with pytest.raises(TokensError, match=r"^line 10001: .*at most 10,000"):
        parse_tokens("\n".join(lines) + "\n")
