"""TLS's PEM files: read as one set, with errors for invalid ones."""

import os
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from certificates import CertificateAuthority, Issued
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa

from pixelserve_server.errors import CertificateError, StartupError
from pixelserve_server.transport.certificates import CertificateFiles, Certificates, read_certificates

HOUR = timedelta(hours=1)


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path / "ca")


@pytest.fixture
def issued(authority: CertificateAuthority) -> Issued:
    return authority.issue()


def read(cert: Path, key: Path, client_ca: Path | None = None) -> Certificates:
    return read_certificates(CertificateFiles(cert, key, client_ca))


def written(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def key_pem(key: "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey") -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_a_set_that_fits_is_read_whole(authority: CertificateAuthority, issued: Issued) -> None:
    found = read(issued.cert, issued.key, authority.path)
    assert (found.chain, found.key, found.client_ca) == (issued.pem, issued.key_pem, authority.pem)
    assert (found.subject, found.warnings) == ("CN=server", ())
    now = datetime.now(UTC)
    assert found.is_valid(now)
    assert not found.is_valid(now + timedelta(days=11))
    assert not found.is_valid(now - timedelta(days=2))
    assert timedelta(days=9) < found.expires["server"] - now <= timedelta(days=10)
    assert timedelta(days=29) < found.expires["client_ca"] - now <= timedelta(days=30)


def test_the_key_is_shown_nowhere(issued: Issued) -> None:
    assert "PRIVATE" not in repr(read(issued.cert, issued.key))


def test_a_client_ca_is_not_needed(issued: Issued) -> None:
    found = read(issued.cert, issued.key)
    assert found.client_ca is None
    assert list(found.expires) == ["server"]


def test_one_file_may_hold_certificate_and_key(issued: Issued, tmp_path: Path) -> None:
    both = written(tmp_path / "both.pem", b"some words\n", issued.key_pem, issued.pem)
    assert read(both, both) == read(issued.cert, issued.key)


def test_files_of_windows_are_read(issued: Issued, tmp_path: Path) -> None:
    cert = written(tmp_path / "a", b"\xef\xbb\xbf", issued.pem.replace(b"\n", b"\r\n"))
    key = written(tmp_path / "b", issued.key_pem.replace(b"\n", b"\r\n"))
    assert read(cert, key) == read(issued.cert, issued.key)


@pytest.mark.parametrize("kind", ["rsa:2048", "rsa:4096", "ec -pkeyopt ec_paramgen_curve:P-384", "ed25519"])
@pytest.mark.slow
def test_a_pair_that_openssl_made_in_one_line_is_taken(kind: str, tmp_path: Path) -> None:
    subprocess.run(
        f"openssl req -x509 -newkey {kind} -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost",
        shell=True,
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )
    assert read(tmp_path / "cert.pem", tmp_path / "key.pem").warnings == ()


def test_a_key_in_the_older_form_with_its_parameters_is_taken(tmp_path: Path) -> None:
    for command in (
        "openssl ecparam -name prime256v1 -genkey -out key.pem",
        "openssl req -x509 -key key.pem -out cert.pem -days 2 -subj /CN=a -addext subjectAltName=DNS:a",
    ):
        subprocess.run(command.split(), check=True, cwd=tmp_path, capture_output=True)
    assert b"BEGIN EC PARAMETERS" in (tmp_path / "key.pem").read_bytes()
    assert read(tmp_path / "cert.pem", tmp_path / "key.pem").key.startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_chain_in_its_order_is_taken_without_a_word(authority: CertificateAuthority, tmp_path: Path) -> None:
    between = CertificateAuthority(tmp_path / "between", "intermediate", parent=authority)
    issued = between.issue(chain=between.pem + authority.pem)
    assert read(issued.cert, issued.key).warnings == ()


def refusal(cert: Path, key: Path, client_ca: Path | None = None) -> str:
    with pytest.raises(CertificateError) as caught:
        read(cert, key, client_ca)
    assert isinstance(caught.value, StartupError)
    return str(caught.value)


@pytest.mark.parametrize("which", ["--tls-cert", "--tls-key", "--tls-client-ca"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is empty; expected a .* in PEM", id="empty"),
        pytest.param(b" \n", "is empty; expected a .* in PEM", id="blank"),
        pytest.param(b"hello", "holds no (certificate|private key) in PEM", id="words"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nMIIB", "is cut off: a block begins and does not end", id="half written"
        ),
        pytest.param(b"\x30\x82\x01\x02", "is binary; expected PEM: convert it with `openssl (x509|pkey)", id="DER"),
        pytest.param(
            b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n",
            "holds a certificate request; expected a (certificate|private key)$",
            id="a request",
        ),
        pytest.param(b"x" * (1024 * 1024 + 1), "has more than 1,048,576 bytes", id="large"),
    ],
)
def test_a_file_without_what_it_should_hold_is_named(
    issued: Issued, authority: CertificateAuthority, tmp_path: Path, which: str, content: bytes, said: str
) -> None:
    bad = written(tmp_path / "bad.pem", content)
    files = {"--tls-cert": issued.cert, "--tls-key": issued.key, "--tls-client-ca": authority.path, which: bad}
    assert re.search(f"^{which} {bad}: {said}", refusal(*files.values()))


@pytest.mark.parametrize("which", ["--tls-cert", "--tls-key", "--tls-client-ca"])
def test_a_file_that_cannot_be_opened_is_named(
    issued: Issued, authority: CertificateAuthority, tmp_path: Path, which: str
) -> None:
    files = {"--tls-cert": issued.cert, "--tls-key": issued.key, "--tls-client-ca": authority.path}
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "gone")
    os.mkfifo(pipe)
    for path, said in (
        (tmp_path / "none.pem", "there is no such file"),
        (link, "there is no such file"),
        (tmp_path, "is not a file; give the path of a PEM file"),
        (pipe, "is not a file; give the path of a PEM file"),
        (issued.cert / "below", "cannot be read: Not a directory"),
    ):
        assert refusal(*{**files, which: path}.values()) == f"{which} {path}: {said}"


def test_a_file_that_may_not_be_read_is_named(issued: Issued, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root, whom tests may run as, can read every file.
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    said = "cannot be read: Permission denied; make it readable for the server's user"
    assert refusal(issued.cert, issued.key) == f"--tls-cert {issued.cert}: {said} (uid {os.geteuid()})"


def test_swapped_files_are_noticed(issued: Issued) -> None:
    assert "--tls-cert" in (said := refusal(issued.key, issued.cert))
    assert "holds a private key and no certificate; are the files swapped?" in said
    said = refusal(issued.cert, issued.cert)
    assert said.startswith("--tls-key")
    assert "holds a certificate and no private key; are the files swapped?" in said


def test_a_key_of_another_certificate_is_refused(authority: CertificateAuthority, issued: Issued) -> None:
    other = authority.issue("other")
    assert refusal(issued.cert, other.key) == (
        f"--tls-key {other.key}: is not the key of the certificate in {issued.cert} (CN=server); renew both together"
    )


def test_a_chain_that_begins_with_another_certificate_is_refused(
    authority: CertificateAuthority, issued: Issued, tmp_path: Path
) -> None:
    cert = written(tmp_path / "chain.pem", authority.pem, issued.pem)
    assert refusal(cert, issued.key).startswith(
        f"--tls-cert {cert}: the key in {issued.key} belongs to certificate 2 of 2; the server's own comes first"
    )


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_an_encrypted_key_is_refused_with_the_way_to_decrypt_it(issued: Issued, tmp_path: Path, form: str) -> None:
    key = serialization.load_pem_private_key(issued.key_pem, None)
    encrypted = written(
        tmp_path / "encrypted.key",
        key.private_bytes(
            serialization.Encoding.PEM,
            getattr(serialization.PrivateFormat, form),
            serialization.BestAvailableEncryption(b"secret"),
        ),
    )
    said = refusal(issued.cert, encrypted)
    assert said.startswith(f"--tls-key {encrypted}: the key is encrypted, which is not supported")
    assert f"`openssl pkey -in {encrypted} -out FILE`" in said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "the RSA key has 1,024 bits; expected 2,048 to 8,192"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "the key is on the curve secp256k1; expected P-256"),
        (ed448.Ed448PrivateKey.generate, "the key is of a kind that TLS does not use here; expected RSA"),
        (lambda: dsa.generate_private_key(1024), "the key is of a kind that TLS does not use here; expected RSA"),
    ],
    ids=["short RSA", "a curve of bitcoin", "Ed448", "DSA"],
)
def test_a_key_that_a_transport_would_not_take_is_refused(
    issued: Issued, tmp_path: Path, make: Callable[[], ec.EllipticCurvePrivateKey], said: str
) -> None:
    assert refusal(issued.cert, written(tmp_path / "odd.key", key_pem(make()))).startswith(
        f"--tls-key {tmp_path / 'odd.key'}: {said}"
    )


def test_two_keys_in_a_file_are_refused(authority: CertificateAuthority, issued: Issued, tmp_path: Path) -> None:
    both = written(tmp_path / "both.key", issued.key_pem, authority.issue("other").key_pem)
    assert "holds 2 private keys; expected one" in refusal(issued.cert, both)


@pytest.mark.parametrize("which", ["--tls-cert", "--tls-key"])
def test_a_block_whose_content_is_broken_is_named(issued: Issued, tmp_path: Path, which: str) -> None:
    good = issued.pem if which == "--tls-cert" else issued.key_pem
    lines = good.splitlines(keepends=True)
    bad = written(tmp_path / "bad.pem", lines[0], b"AAAA" + lines[1][4:], *lines[2:])
    files = {"--tls-cert": issued.cert, "--tls-key": issued.key, which: bad}
    what = "certificate 1" if which == "--tls-cert" else "the private key"
    assert refusal(*files.values()).startswith(f"{which} {bad}: {what} cannot be read: ")


def test_a_server_certificate_of_version_1_is_refused(authority: CertificateAuthority) -> None:
    old = authority.issue("old", version_1=True)
    assert f"--tls-cert {old.cert}: the certificate is X.509 version 1" in refusal(old.cert, old.key)


def test_a_client_ca_that_is_not_a_ca_is_refused(
    authority: CertificateAuthority, issued: Issued, tmp_path: Path
) -> None:
    bundle = written(tmp_path / "bundle.pem", authority.pem, issued.pem)
    assert refusal(issued.cert, issued.key, bundle).startswith(
        f"--tls-client-ca {bundle}: certificate 2 (CN=server) is not a CA's; give that of the CA that signs"
    )


def warnings(cert: Path, key: Path, client_ca: Path | None = None) -> list[str]:
    return list(read(cert, key, client_ca).warnings)


def test_what_clients_will_refuse_is_served_with_a_warning(
    authority: CertificateAuthority, new_certificate_authority: Callable[..., CertificateAuthority]
) -> None:
    unnamed = authority.issue("unnamed", hosts=())
    assert warnings(unnamed.cert, unnamed.key) == [
        f"--tls-cert {unnamed.cert}: the certificate has no subject alternative name; most clients refuse it"
    ]
    past = authority.issue("past", starts=-2 * HOUR, ends=-HOUR)
    (said,) = warnings(past.cert, past.key)
    assert re.fullmatch(rf"--tls-cert {past.cert}: CN=past expired at \S+ \S+ UTC; clients refuse it", said)
    future = authority.issue("future", starts=HOUR)
    (said,) = warnings(future.cert, future.key)
    assert re.fullmatch(
        rf"--tls-cert {future.cert}: CN=future is not valid before \S+ \S+ UTC; clients refuse it", said
    )
    strange = authority.issue("strange", chain=new_certificate_authority("stranger").pem)
    (said,) = warnings(strange.cert, strange.key)
    assert f"--tls-cert {strange.cert}: certificate 2 (CN=stranger) did not sign certificate 1;" in said
    client = authority.issue("client", for_servers=False)
    (said,) = warnings(client.cert, client.key)
    assert "the certificate's extended key usage is not serverAuth; clients refuse it" in said


def test_an_expired_client_ca_is_reported_and_counts_only_if_it_is_alone(
    authority: CertificateAuthority, issued: Issued, tmp_path: Path
) -> None:
    old = CertificateAuthority(tmp_path / "old", "old CA", ends=-HOUR)
    found = read(issued.cert, issued.key, old.path)
    (said,) = found.warnings
    assert re.fullmatch(
        rf"--tls-client-ca {old.path}: CN=old CA expired at \S+ \S+ UTC; clients that it signed are refused", said
    )
    assert found.expires["client_ca"] < datetime.now(UTC)
    bundle = written(tmp_path / "bundle.pem", old.pem, authority.pem)
    assert read(issued.cert, issued.key, bundle).expires["client_ca"] > datetime.now(UTC)


def test_a_swap_while_the_files_are_read_gives_the_new_set_whole(
    authority: CertificateAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. The old certificate is read. 2. The link moves to the new pair. 3. The new key is read. 4. Both again."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        pair = authority.issue(name)
        written(tmp_path / name / "tls.crt", pair.pem)
        written(tmp_path / name / "tls.key", pair.key_pem)
    link = tmp_path / "..data"
    link.symlink_to("old")
    files = CertificateFiles(link / "tls.crt", link / "tls.key")
    opened: list[Path] = []
    really_open = Path.open

    def opening(path: Path, mode: str) -> object:
        if opened == [files.cert]:
            (tmp_path / "next").symlink_to("new")
            (tmp_path / "next").rename(link)
        opened.append(path)
        return really_open(path, mode)

    monkeypatch.setattr(Path, "open", opening)
    assert read_certificates(files).subject == "CN=new"
    assert opened == [files.cert, files.key] * 2


def test_files_that_never_rest_are_refused(issued: Issued, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = Path.open

    def opening(path: Path, mode: str) -> object:
        os.utime(issued.key)
        return really_open(path, mode)

    monkeypatch.setattr(Path, "open", opening)
    with pytest.raises(CertificateError, match="changes whenever it is read"):
        read(issued.cert, issued.key)
