"""Certificates renewed in use: accepted and refused files, and log messages."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from certificates import CertificateAuthority, Issued

from pixelserve_server.failures import FailureLog
from pixelserve_server.observe.certificates import CertificateEvents
from pixelserve_server.observe.metrics import Metrics
from pixelserve_server.transport import renewal
from pixelserve_server.transport.certificates import CertificateFiles, Certificates, read_certificates
from pixelserve_server.transport.renewal import CertificateRenewal

HOUR = timedelta(hours=1)


class Port:
    """Keeps new certificates, or refuses them."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.refuses = False
        self.got = threading.Event()

    def renew(self, certificates: Certificates) -> None:
        if self.refuses:
            raise RuntimeError("no room")
        self.given.append(certificates.subject)
        self.got.set()


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info


class Served:
    """Files like those of a Kubernetes secret, two ports that use them, and the log."""

    def __init__(self, folder: Path, authority: CertificateAuthority) -> None:
        self.folder = folder
        self.authority = authority
        self._sets = 0
        self.swap(authority.issue("first"))
        self.files = CertificateFiles(*(folder / "..data" / name for name in ("tls.crt", "tls.key", "ca.crt")))
        self.ports = [Port(), Port()]
        self.log, self.metrics = Log(), Metrics()
        self.events = CertificateEvents(self.metrics, self.log)
        found = read_certificates(self.files)
        self.events.on_taken(found.subject, found.expires, found.warnings, renewed=False)
        self.renewal = CertificateRenewal(
            self.files,
            found,
            [port.renew for port in self.ports],
            self.events,
            FailureLog(self.log),
            interval_s=0.01,
        )

    def swap(self, issued: Issued) -> None:
        """Moves the link to a folder with another pair, as the kubelet does."""
        self._sets += 1
        folder = self.folder / f"..set-{self._sets}"
        folder.mkdir()
        for name, content in (
            ("tls.crt", issued.pem),
            ("tls.key", issued.key_pem),
            ("ca.crt", self.authority.pem),
        ):
            (folder / name).write_bytes(content)
        (self.folder / "..data_tmp").symlink_to(folder.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")

    def write(self, issued: Issued) -> None:
        """Writes over the files, one after the other."""
        self.files.cert.write_bytes(issued.pem)
        self.files.key.write_bytes(issued.key_pem)

    def look(self, times: int = 2) -> None:
        """Lets the renewal see a change, and that it has rested."""
        for _ in range(times):
            self.renewal.look()

    def said(self) -> list[str]:
        return [event for event, _ in self.log.lines]

    def reasons(self) -> list[str]:
        return [fields["reason"] for event, fields in self.log.lines if event == "certificate not renewed"]

    def figure(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"pixelserve_tls_{name}", labels)


@pytest.fixture
def served(tmp_path: Path) -> Served:
    served = Served(tmp_path, CertificateAuthority(tmp_path / "ca"))
    served.look()
    return served


def test_files_that_do_not_change_are_no_event(served: Served) -> None:
    served.look(50)
    assert served.ports[0].given == []
    assert served.said() == ["certificate loaded"]
    assert served.figure("reloads_total", outcome="renewed") == 0
    assert served.figure("reloads_total", outcome="failed") == 0
    assert served.figure("last_reload_successful") == 1


def test_a_swapped_link_brings_every_port_the_new_set(served: Served) -> None:
    before = served.figure("certificate_expiry_timestamp_seconds", file="server")
    served.swap(served.authority.issue("second", ends=timedelta(days=20)))
    served.look()
    assert [port.given for port in served.ports] == [["CN=second"]] * 2
    event, fields = served.log.lines[-1]
    assert (event, fields["subject"]) == ("certificate renewed", "CN=second")
    assert served.figure("reloads_total", outcome="renewed") == 1
    assert served.figure("certificate_expiry_timestamp_seconds", file="server") - before == pytest.approx(
        10 * 24 * 3600, abs=60
    )
    assert served.figure("certificate_expiry_timestamp_seconds", file="client_ca") > before


def test_files_that_are_renamed_over_others_are_taken(served: Served) -> None:
    new = served.authority.issue("second")
    new.cert.rename(served.files.cert)
    new.key.rename(served.files.key)
    served.look()
    assert served.ports[0].given == ["CN=second"]


def test_a_change_is_taken_when_it_has_rested(served: Served) -> None:
    """1. The new certificate is written. 2. A look. 3. The new key is written. 4. A look, and another."""
    new = served.authority.issue("second")
    served.files.cert.write_bytes(new.pem)
    served.look(1)
    served.files.key.write_bytes(new.key_pem)
    served.look(1)
    assert served.ports[0].given == []
    served.look(1)
    assert served.ports[0].given == ["CN=second"]
    assert served.reasons() == []


def test_a_new_client_ca_alone_is_taken(
    served: Served, new_certificate_authority: Callable[..., CertificateAuthority]
) -> None:
    assert served.files.client_ca
    served.files.client_ca.write_bytes(served.authority.pem + new_certificate_authority("other").pem)
    served.look()
    assert served.ports[0].given == ["CN=first"]


def test_files_written_again_as_they_were_are_no_event(served: Served) -> None:
    served.files.cert.write_bytes(served.files.cert.read_bytes())
    served.look()
    assert served.ports[0].given == []
    assert served.said() == ["certificate loaded"]


def break_by_half(served: Served) -> None:
    served.files.cert.write_bytes(served.files.cert.read_bytes()[:200])


def break_by_another_key(served: Served) -> None:
    served.files.key.write_bytes(served.authority.issue("other").key_pem)


def break_by_removal(served: Served) -> None:
    served.files.key.unlink()


def break_by_the_past(served: Served) -> None:
    served.write(served.authority.issue("past", starts=-2 * HOUR, ends=-HOUR))


def break_by_the_future(served: Served) -> None:
    served.write(served.authority.issue("future", starts=HOUR))


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (break_by_half, "is cut off"),
        (break_by_another_key, "is not the key of the certificate"),
        (break_by_removal, "there is no such file"),
        (break_by_the_past, "which is not now; the one in use is"),
        (break_by_the_future, "which is not now; the one in use is"),
    ],
)
def test_a_bad_set_keeps_the_one_in_use_until_a_good_one_comes(
    served: Served, break_it: Callable[[Served], None], said: str
) -> None:
    break_it(served)
    # However often it is tried, it is one event.
    served.look(100)
    assert [port.given for port in served.ports] == [[], []]
    (reason,) = served.reasons()
    assert said in reason
    assert str(served.folder) in reason
    assert served.figure("reloads_total", outcome="failed") == 1
    assert served.figure("last_reload_successful") == 0
    served.swap(served.authority.issue("second"))
    served.look()
    assert served.ports[0].given == ["CN=second"]
    assert served.figure("last_reload_successful") == 1


def test_a_bad_set_that_is_taken_back_leaves_no_alert(served: Served) -> None:
    good = served.files.key.read_bytes()
    break_by_another_key(served)
    served.look()
    assert served.figure("last_reload_successful") == 0
    served.files.key.write_bytes(good)
    served.look()
    assert served.figure("last_reload_successful") == 1
    # The ports had it all the time.
    assert served.ports[0].given == []


def test_a_set_of_tomorrow_is_taken_when_it_becomes_valid(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    break_by_the_future(served)
    served.look(100)
    assert served.ports[0].given == []

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + 2 * HOUR

    monkeypatch.setattr(renewal, "datetime", Later)
    served.look(100)
    assert served.ports[0].given == ["CN=future"]


def test_an_expired_set_may_follow_an_expired_one(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "ca")
    served = Served(tmp_path, authority)
    served.swap(authority.issue("past", starts=-3 * HOUR, ends=-2 * HOUR))
    found = read_certificates(served.files)
    port = Port()
    served.renewal = CertificateRenewal(served.files, found, [port.renew], served.events, FailureLog(served.log))
    served.write(authority.issue("later", starts=-2 * HOUR, ends=-HOUR))
    served.look()
    assert port.given == ["CN=later"]
    assert "certificate doubtful" in served.said()


def test_a_port_that_does_not_take_a_set_is_asked_again_and_the_others_are_not(served: Served) -> None:
    served.ports[1].refuses = True
    served.swap(served.authority.issue("second"))
    served.look()
    assert served.reasons() == ["a port refused it: no room"]
    served.ports[1].refuses = False
    served.look(30)
    assert [port.given for port in served.ports] == [["CN=second"]] * 2
    assert served.said()[-1] == "certificate renewed"
    assert served.figure("last_reload_successful") == 1


def test_the_thread_takes_a_change_and_ends(served: Served) -> None:
    served.renewal.start()
    served.swap(served.authority.issue("second"))
    assert served.ports[1].got.wait(30)
    served.renewal.close()
    assert not any(thread.name == "certificates" for thread in threading.enumerate())


def test_a_look_that_fails_does_not_end_the_looking(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    really = CertificateFiles.signature
    calls: list[None] = []

    def signature(files: CertificateFiles) -> tuple[object, ...]:
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("no memory")
        return really(files)

    monkeypatch.setattr(CertificateFiles, "signature", signature)
    served.renewal.start()
    served.swap(served.authority.issue("second"))
    assert served.ports[1].got.wait(30)
    served.renewal.close()
    assert "unexpected failure" in served.said()


def test_without_tls_there_are_no_figures_of_it() -> None:
    registry = Metrics().registry
    assert registry.get_sample_value("pixelserve_tls_last_reload_successful") is None
    assert registry.get_sample_value("pixelserve_tls_reloads_total", {"outcome": "failed"}) is None
