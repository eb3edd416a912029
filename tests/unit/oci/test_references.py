"""Valid and invalid image references."""

from pathlib import Path

import pytest

from pixelserve.oci.references import LayoutReference, RegistryReference, is_image, parse_reference
from pixelserve.pull.errors import UsageError

DIGEST = f"sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oci:images", LayoutReference(Path("images"), None, None)),
        ("oci:/srv/images:v1.0_2", LayoutReference(Path("/srv/images"), "v1.0_2", None)),
        (f"oci:/srv/images@{DIGEST}", LayoutReference(Path("/srv/images"), None, DIGEST)),
        ("oci://reg.example.org/a/b-c", RegistryReference("reg.example.org", "a/b-c", None, None)),
        ("docker://reg.example.org:5000/a:1", RegistryReference("reg.example.org:5000", "a", "1", None)),
        (f"oci://[::1]:5000/a@{DIGEST}", RegistryReference("[::1]:5000", "a", None, DIGEST)),
        (f"oci://localhost/a:1@{DIGEST}", RegistryReference("localhost", "a", "1", DIGEST)),
    ],
)
def test_a_reference_is_read_and_written(url: str, expected: object) -> None:
    found = parse_reference(url)
    assert found == expected
    assert parse_reference(found.shown) == found
    assert is_image(url)


@pytest.mark.parametrize(
    "url",
    [
        *("oci:", "oci::tag", "oci:images:", "oci:images:a b", "oci:images@sha256:12", f"oci:images@{DIGEST.upper()}"),
        *(
            "oci://",
            "oci://host",
            "oci://host/",
            "oci://host/Upper",
            "oci://host/a//b",
            "oci://host/../a",
            "oci://host/a:",
        ),
        *("oci://user@host/a", "oci://user:secret@host/a", "oci://host:port/a", "oci://host/a?x=1", "oci://ho st/a"),
        *(f"oci://host/{'a' * 256}", f"oci://host/a:{'t' * 129}", "oci://host/a@md5:12", "docker:host/a", "/a/folder"),
    ],
)
def test_an_invalid_reference_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"expected|must be sha256"):
        parse_reference(url)


def test_other_urls_are_not_images() -> None:
    assert not [url for url in ("s3://oci/a", "/oci:/a", "https://a/oci:b", "images", "ocid:a") if is_image(url)]
