"""The Dockerfiles keep their promises to the chart and to operators."""

import re
from pathlib import Path

import pytest

from deploy.images.build import BASE, VARIANTS

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "deploy" / "images"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
SERVERS = [path for path in DOCKERFILES if path.name.startswith("server")]


def name(path: Path) -> str:
    return path.name


def final_stage(path: Path) -> str:
    return path.read_text().rpartition("\nFROM ")[2]


def pins(path: Path) -> set[str]:
    return set(re.findall(r"^\S+==\S+", path.read_text(), re.MULTILINE))


def test_there_is_a_dockerfile_for_each_variant() -> None:
    assert {path.name for path in DOCKERFILES} == {f"{variant}.Dockerfile" for variant in VARIANTS}


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_the_final_stage_is_empty_at_first_and_runs_as_the_chart_s_user(path: Path) -> None:
    stage = final_stage(path)
    assert stage.startswith("scratch\n")
    assert re.findall(r"^USER (.*)", stage, re.MULTILINE) == ["65532:65532"]
    assert '\nENTRYPOINT ["pixelserve"]\n' in stage
    assert "LANG=C.UTF-8" in stage
    assert "\nRUN " not in stage


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_the_base_is_an_argument_with_a_tag_and_without_a_digest(path: Path) -> None:
    text = path.read_text()
    assert f"\nARG BASE={BASE}\n" in text
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}", "scratch"]
    assert ":latest" not in text
    assert "sha256:" not in text


def test_the_build_stages_are_the_same() -> None:
    stages = {re.search(r"\n# The build stage.*\nFROM scratch", path.read_text(), re.DOTALL) for path in DOCKERFILES}
    assert None not in stages
    assert len({match[0] for match in stages if match}) == 1


@pytest.mark.parametrize("path", SERVERS, ids=name)
def test_the_servers_have_the_settings_ports_and_healthcheck_that_the_chart_relies_on(path: Path) -> None:
    stage = final_stage(path)
    for line in ("PIXELSERVE_HOST=0.0.0.0", "PIXELSERVE_MODEL_REPOSITORY=/models", "EXPOSE 8000 8001 8002"):
        assert line in stage
    assert '\nCMD ["serve"]\n' in stage
    assert "HEALTHCHECK --interval" in stage
    assert "COPY models/ /models/\n" in stage


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_the_build_context_has_every_file_that_is_copied(path: Path) -> None:
    context = {
        line.removeprefix("!").removesuffix("/*.txt").removesuffix("/*.png")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [line.split()[1:-1] for line in path.read_text().splitlines() if re.match("COPY (?!--from)", line)]
    sources = {source.rstrip("/") for line in copied for source in line}
    assert sources <= context
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_the_requirements_exist(path: Path) -> None:
    (requirements,) = re.findall(r"^ARG REQUIREMENTS=(.+)", path.read_text(), re.MULTILINE)
    assert (ROOT / "requirements" / requirements).is_file()


@pytest.mark.parametrize("file", ["image.txt", "image-training.txt"])
def test_what_an_image_installs_is_what_is_tested(file: str) -> None:
    assert pins(ROOT / "requirements" / file) <= pins(ROOT / "requirements" / "dev.txt")


def test_the_cuda_image_differs_from_the_tested_packages_by_the_runtime_only() -> None:
    more = pins(ROOT / "requirements" / "image-cuda.txt") - pins(ROOT / "requirements" / "dev.txt")
    assert {pin.split("==")[0] for pin in more if not pin.startswith("nvidia-")} == {"onnxruntime-gpu"}


@pytest.mark.parametrize("file", ["image.txt", "image-s3.txt", "image-gcs.txt", "image-cuda.txt"])
def test_the_server_s_images_have_no_training_or_build_tools(file: str) -> None:
    names = {pin.split("==")[0] for pin in pins(ROOT / "requirements" / file)}
    assert not names & {"tensorflow", "keras", "pip", "setuptools", "wheel", "pytest", "mypy"}
