"""deploy/images: the engine, the base image, and error messages."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.images import base, build, engine, pip_settings, supply
from deploy.images.__main__ import parser
from deploy.images.engine import ImageError

DIGEST = f"sha256:{'a' * 64}"


def choose(working: Mapping[str, str], asked: str = "") -> str:
    """Chooses among installed engines, given by name with their problems."""
    return engine.choose(asked, find=lambda name: name if name in working else None, probe=lambda name: working[name])


def test_docker_comes_first_then_podman_then_buildah() -> None:
    assert choose({"buildah": "", "podman": "", "docker": ""}) == "docker"
    assert choose({"buildah": "", "podman": ""}) == "podman"
    assert choose({"buildah": ""}) == "buildah"


def test_a_client_without_its_engine_is_passed_over() -> None:
    assert choose({"docker": "Cannot connect to the Docker daemon", "buildah": ""}) == "buildah"


def test_the_engine_asked_for_is_taken() -> None:
    assert choose({"docker": "", "buildah": ""}, asked="buildah") == "buildah"


def test_without_an_engine_the_error_says_why_each_failed_and_what_to_install() -> None:
    with pytest.raises(ImageError) as error:
        choose({"docker": "Cannot connect to the Docker daemon"})
    assert "docker: Cannot connect to the Docker daemon" in str(error.value)
    assert "podman: not installed" in str(error.value)
    assert "apt install podman" in str(error.value)


def test_an_engine_asked_for_that_is_missing_is_an_error_though_another_works() -> None:
    with pytest.raises(ImageError, match="docker: not installed"):
        choose({"podman": ""}, asked="docker")


def test_a_program_whose_info_fails_is_not_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in engine.ENGINES:
        (tmp_path / name).write_text("#!/bin/sh\necho no daemon >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ImageError, match="docker: no daemon"):
        engine.choose()


@pytest.mark.parametrize(
    ("reference", "without"),
    [
        ("debian:trixie-slim", "debian"),
        ("debian", "debian"),
        ("registry.example:5000/team/debian", "registry.example:5000/team/debian"),
        ("registry.example:5000/team/debian:12", "registry.example:5000/team/debian"),
    ],
)
def test_a_tag_is_distinguished_from_a_port(reference: str, without: str) -> None:
    assert base.without_tag(reference) == without


def test_the_base_is_pinned_by_the_digest_that_its_registry_names() -> None:
    assert base.pinned("debian:trixie-slim", lambda _: f"{DIGEST}\n") == (f"debian@{DIGEST}", DIGEST)


@pytest.mark.parametrize("answer", ["", "denied", "sha256:abc"])
def test_without_a_digest_the_base_keeps_its_tag(answer: str) -> None:
    assert base.pinned("debian:trixie-slim", lambda _: answer) == ("debian:trixie-slim", "")


def test_a_base_with_a_digest_and_a_local_one_ask_no_registry() -> None:
    def refuse(_: str) -> str:
        raise AssertionError("asked a registry")

    assert base.pinned(f"debian@{DIGEST}", refuse) == (f"debian@{DIGEST}", DIGEST)
    assert base.pinned("localhost/base:1", refuse) == ("localhost/base:1", "")


def test_pip_settings_of_the_environment_win_and_only_reachable_ones_are_passed_on(tmp_path: Path) -> None:
    settings = pip_settings.parse(
        ":env:.index-url='https://mirror.example/simple'\n"
        "global.cert='/etc/ca.pem'\n"
        "global.constraint='/etc/constraints.txt'\n"
        "global.extra-index-url='file:///srv/simple https://second.example/simple'\n"
        "global.index-url='https://old.example/simple'\n"
    )
    found = pip_settings.secrets(settings, tmp_path)
    assert found["ca"] == Path("/etc/ca.pem")
    assert found["pip"].read_text().splitlines() == [
        "[global]",
        "index-url = https://mirror.example/simple",
        "extra-index-url = https://second.example/simple",
        f"cert = {pip_settings.CA_IN_BUILD}",
    ]


def test_a_machine_without_pip_settings_passes_no_secrets(tmp_path: Path) -> None:
    assert pip_settings.secrets(pip_settings.parse(""), tmp_path) == {}


def test_a_recipe_has_version_revision_time_and_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    recipe = build.make_recipe("server", "", f"debian@{DIGEST}", "", tmp_path)
    assert recipe.tag == f"pixelserve-server:{build.project_version()}"
    assert recipe.arguments["CREATED"] == "1970-01-02T00:00:00Z"
    assert recipe.arguments["BASE"] == f"debian@{DIGEST}"
    assert recipe.labels["org.opencontainers.image.base.digest"] == DIGEST
    assert "REQUIREMENTS" not in recipe.arguments


def test_a_wrong_source_date_epoch_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ImageError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        build.make_recipe("server", "", f"debian@{DIGEST}", "", tmp_path)


@pytest.mark.parametrize("name", ["nothing.txt", "../pyproject.toml/x"])
def test_requirements_that_do_not_exist_are_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        build.make_recipe("server", "", f"debian@{DIGEST}", name, tmp_path)


def test_every_engine_gets_arguments_labels_and_secrets() -> None:
    recipe = engine.Recipe(Path("D"), Path("C"), "t:1", {"A": "1"}, {"l": "2"}, {"pip": Path("/p")}, 7)
    for name in engine.ENGINES:
        line = " ".join(engine.build_command(name, recipe, Path("/id")))
        assert line.startswith(f"{name} build --file D --tag t:1 --iidfile /id")
        assert "--build-arg A=1 --label l=2 --secret id=pip,src=/p" in line
        assert line.endswith(" C")


def test_podman_and_buildah_keep_the_healthcheck() -> None:
    recipe = engine.Recipe(Path("D"), Path("C"), "t:1", {}, {}, {}, 7)
    for name in ("podman", "buildah"):
        command = engine.build_command(name, recipe, Path("/id"))
        assert command[command.index("--format") + 1] == "docker"
        assert command[command.index("--timestamp") + 1] == "7"


def test_a_failed_command_shows_its_last_words() -> None:
    with pytest.raises(ImageError, match="exit code 3:\nno space left"):
        engine.run(["sh", "-c", "echo no space left >&2; exit 3"])


@pytest.mark.parametrize("image", ["", "pixelserve-server", "registry.example/server:1"])
def test_an_image_without_a_digest_is_not_signed(image: str) -> None:
    with pytest.raises(ImageError, match="has no digest"):
        supply.sign_commands(image, "", None, [])


def test_an_sbom_of_unknown_format_is_not_attested() -> None:
    with pytest.raises(ImageError, match=r"must end in \.spdx\.json or \.cdx\.json"):
        supply.sign_commands(f"r/i@{DIGEST}", "k", Path("sbom.json"), [])


def test_a_missing_sbom_is_named_before_anything_is_signed(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="make sbom"):
        supply.sign(f"r/i@{DIGEST}", "k", tmp_path / "server.spdx.json", [])


def test_an_sbom_of_either_format_is_attested_by_its_type() -> None:
    for name, kind in (("a.spdx.json", "spdxjson"), ("a.cdx.json", "cyclonedx")):
        attest = supply.sign_commands(f"r/i@{DIGEST}", "k", Path(name), [])[1]
        assert attest[attest.index("--type") + 1] == kind


def test_keyless_signing_names_no_key() -> None:
    assert "--key" not in supply.sign_commands(f"r/i@{DIGEST}", "", None, [])[0]


def test_the_command_line_takes_make_s_empty_variables() -> None:
    given = parser().parse_args(["build", "--variant", "training", "--image", "", "--engine", "", "--base", ""])
    assert isinstance(given, argparse.Namespace)
    assert given.variant == "training"


def test_an_sbom_of_an_image_that_was_not_built_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "podman").write_text('#!/bin/sh\ntest "$1" = info || { echo image not known >&2; exit 125; }\n')
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ImageError, match="podman has no image nothing:1; build it with `make image`"):
        supply.write_sbom("nothing:1", "syft", tmp_path / "out" / "sbom.json", "spdx-json", "podman")
    assert not (tmp_path / "out").exists()
