"""Checks a running container of the server."""

import json
from collections.abc import Iterator

from ..results import Result
from .container import CPUS, MEMORY_MIB, Container

PICTURE = "/opt/pixelserve/examples/mnist/digit-7-test-00000.png"
_STATUS = "print(open('/proc/1/status').read())"
_LOCALES = "import locale; print(*(locale.setlocale(locale.LC_ALL, name) for name in ('', 'en_US.UTF-8')))"
_WRITE = """
for folder in ("/", "/tmp", "/models", "/opt/pixelserve"):
    try:
        open(folder + "/file", "w")
        print(folder)
    except OSError:
        pass
"""
_HEALTHCHECK_COST = """
import resource, subprocess
subprocess.run(["python", "-I", "-S", "/opt/pixelserve/healthcheck.py"], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{(used.ru_utime + used.ru_stime) * 1000:.0f} ms of CPU, {used.ru_maxrss / 1024:.0f} MiB")
"""
_HEALTHCHECK_WHEN_DOWN = """
import subprocess
command = ["python", "-I", "-S", "/opt/pixelserve/healthcheck.py"]
print(subprocess.run(command, env={"PIXELSERVE_METRICS_PORT": "1", "PATH": "/opt/pixelserve/bin"}).returncode)
"""
_EXTRAS = "import aiohttp, fsspec, opentelemetry.exporter.otlp.proto.http, opentelemetry.sdk.trace, ssl; "
_EXTRAS += "print(len(ssl.create_default_context().get_ca_certs()))"


def check(container: Container) -> Iterator[Result]:
    """Checks a ready container, and stops it."""
    limits = f"{CPUS} CPU, {MEMORY_MIB} MiB, read-only, no capabilities"
    yield Result("starts", limits, f"ready in {container.start_s:.1f} s", ok=True)
    yield from _process(container)
    threads = {line["threads"] for line in container.log() if line["event"] == "model loaded"}
    yield Result("threads of a run", f"{CPUS}, by the CPU limit", str(sorted(threads)), threads == {CPUS})
    yield from _python(container)
    yield _classifies(container)
    yield from _healthchecks(container)
    code, seconds = container.stop()
    yield Result("SIGTERM", "exit code 0", f"exit code {code}, {seconds:.1f} s", code == 0)


def _process(container: Container) -> Iterator[Result]:
    text = container.python(_STATUS)
    status = {line.partition(":")[0]: line.partition(":")[2].split() for line in text.splitlines()}
    user = status["Uid"][0]
    yield Result("runs as", "uid 65532", f"uid {user}", user == "65532")
    capabilities = {status[name][0].strip("0") for name in ("CapPrm", "CapEff", "CapBnd")}
    yield Result("capabilities", "none", "".join(sorted(capabilities)) or "none", capabilities == {""})
    locked = status["NoNewPrivs"][0]
    yield Result("no new privileges", "set", "set" if locked == "1" else "not set", locked == "1")
    yield Result("peak memory", "", f"{int(status['VmHWM'][0]) / 1024:.0f} MiB", ok=True)


def _python(container: Container) -> Iterator[Result]:
    writable = container.python(_WRITE)
    yield Result("root and /tmp", "read-only", writable or "read-only", not writable)
    locales = container.python(_LOCALES)
    yield Result("locales", "C.UTF-8 en_US.UTF-8", locales, locales == "C.UTF-8 en_US.UTF-8")
    certificates = container.python(_EXTRAS)
    yield Result(
        "extras pull and otel", "CA certificates", certificates, certificates.isdigit() and certificates != "0"
    )


def _classifies(container: Container) -> Result:
    done = container.execute("pixelserve", "classify", PICTURE, "--model", "mnist-cnn", "--json")
    if done.returncode:
        return Result("classifies a picture", "7", done.stderr.strip()[-200:], ok=False)
    label = json.loads(done.stdout.splitlines()[0])["classes"][0]["label"]
    return Result("classifies a picture", "7", str(label), label == "7")


def _healthchecks(container: Container) -> Iterator[Result]:
    code = container.healthcheck()
    yield Result("HEALTHCHECK", "exit code 0", f"exit code {code}", code == 0)
    down = container.python(_HEALTHCHECK_WHEN_DOWN)
    yield Result("HEALTHCHECK without a server", "exit code 1", f"exit code {down}", down == "1")
    yield Result("cost of HEALTHCHECK", "", container.python(_HEALTHCHECK_COST), ok=True)
