"""Settings: flag over environment over default, and errors for invalid ones."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pixelserve_server import flags
from pixelserve_server.command import describe, main, parse_settings, service_links
from pixelserve_server.errors import ConfigurationError, StartupError
from pixelserve_server.settings import GROUPS, Settings

REPOSITORY = ["--model-repository", "models"]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PIXELSERVE_{name.upper()}", raising=False)


def test_a_setting_that_is_not_given_has_its_default() -> None:
    settings = parse_settings(REPOSITORY)
    assert settings.model_repository == Path("models")
    assert (settings.host, settings.grpc_port, settings.metrics_port) == ("127.0.0.1", 8001, 8002)
    assert (settings.http, settings.http_port) == (True, 8000)
    assert (settings.device, settings.exit_on_error, settings.require_card) == ("auto", True, False)


def test_the_environment_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_GRPC_PORT", "9001")
    assert parse_settings(REPOSITORY).grpc_port == 9001


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_GRPC_PORT", "9001")
    monkeypatch.setenv("PIXELSERVE_MODEL_REPOSITORY", "elsewhere")
    settings = parse_settings([*REPOSITORY, "--grpc-port", "9002"])
    assert (settings.grpc_port, settings.model_repository) == (9002, Path("models"))


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_MODEL_REPOSITORY", "elsewhere")
    assert parse_settings([]).model_repository == Path("elsewhere")


# A pod's variables for each Service of its namespace, here for Services named like the project.
SERVICE_LINKS = {
    f"{service}_{name}": value
    for service in ("PIXELSERVE", "PIXELSERVE_GRPC", "PIXELSERVE_HTTP", "PIXELSERVE_METRICS")
    for name, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8002",
        "SERVICE_PORT_MAIN": "8002",
        "PORT": "tcp://10.0.0.1:8002",
        "PORT_8002_TCP": "tcp://10.0.0.1:8002",
        "PORT_8002_TCP_PROTO": "tcp",
        "PORT_8002_TCP_PORT": "8002",
        "PORT_8002_TCP_ADDR": "10.0.0.1",
    }.items()
}


def test_variables_that_kubernetes_sets_for_services_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    settings = parse_settings(REPOSITORY)
    assert (settings.grpc_port, settings.http_port, settings.metrics_port) == (8001, 8000, 8002)
    ignored = ["PIXELSERVE_GRPC_PORT", "PIXELSERVE_HTTP_PORT", "PIXELSERVE_METRICS_PORT"]
    assert service_links(SERVICE_LINKS) == ignored


@pytest.mark.parametrize("address", ["udp://10.0.0.1:53", "sctp://10.0.0.1:9", "tcp://[fd00::1]:8002"])
def test_a_services_address_is_known_in_each_form(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("PIXELSERVE_METRICS_PORT", address)
    assert parse_settings([*REPOSITORY, "--metrics-port", "9002"]).metrics_port == 9002
    assert parse_settings(REPOSITORY).metrics_port == 8002


def test_a_port_that_is_not_a_services_address_is_refused_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_METRICS_PORT", "10.0.0.1:8002")
    with pytest.raises(StartupError, match="PIXELSERVE_METRICS_PORT"):
        parse_settings(REPOSITORY)


# One value other than the default for each setting, as it is written.
VALUES: dict[str, tuple[str, Any]] = {
    "model_name": ("digits", "digits"),
    "model_repository": ("elsewhere", Path("elsewhere")),
    "host": ("0.0.0.0", "0.0.0.0"),
    "tokens": ("tokens.txt", Path("tokens.txt")),
    "insecure": ("true", True),
    "allowed_hosts": ("a.example,b.example", "a.example,b.example"),
    "http": ("false", False),
    "page": ("false", False),
    "http_port": ("0", 0),
    "grpc_port": ("0", 0),
    "metrics_port": ("65535", 65535),
    "tls_cert": ("tls.crt", Path("tls.crt")),
    "tls_key": ("tls.key", Path("tls.key")),
    "tls_client_ca": ("ca.crt", Path("ca.crt")),
    "metrics_tls": ("true", True),
    "device": ("cpu", "cpu"),
    "device_id": ("15", 15),
    "require_gpu": ("true", True),
    "exit_on_error": ("false", False),
    "model_control_mode": ("poll", "poll"),
    "repository_poll_s": ("0.5", 0.5),
    "load_models": ("a,b", "a,b"),
    "require_card": ("true", True),
    "default_max_batch_size": ("4", 4),
    "max_queue_size": ("5", 5),
    "max_message_mib": ("6", 6),
    "max_load_files_mib": ("17", 17),
    "max_json_mib": ("16", 16),
    "max_inflight_mib": ("9", 9),
    "max_concurrent_streams": ("10", 10),
    "max_infer_streams": ("17", 17),
    "stream_window": ("18", 18),
    "system_shared_memory": ("true", True),
    "triton_status_codes": ("true", True),
    "max_images": ("11", 11),
    "max_image_pixels": ("12", 12),
    "max_decode_mib": ("128", 128),
    "decode_threads": ("13", 13),
    "batch_buckets": ("1,8", "1,8"),
    "limit_batches": ("false", False),
    "warmup_s": ("2.5", 2.5),
    "warmup_mib": ("64", 64),
    "run_on_arrival": ("false", False),
    "shed_delay_ms": ("250", 250.0),
    "target_p99_ms": ("50", 50.0),
    "max_connections": ("15", 15),
    "max_header_kib": ("32", 32),
    "idle_connection_timeout_s": ("60", 60.0),
    "max_connection_age_s": ("600", 600.0),
    "handshake_timeout_s": ("2.5", 2.5),
    "idle_body_timeout_s": ("3.5", 3.5),
    "unread_answer_timeout_s": ("4.5", 4.5),
    "transport": ("grpcio", "grpcio"),
    "print_config": ("true", True),
    "engine": ("auto", "auto"),
    "intra_op_threads": ("8", 8),
    "cuda_arena_shrink": ("true", True),
    "cuda_graphs": ("true", True),
    "session_option": ("session.a=1,cuda.b=2", ("session.a=1", "cuda.b=2")),
    "drain_settle_s": ("0.5", 0.5),
    "grace_s": ("1.5", 1.5),
    "drift_window": ("500", 500),
    "access_log_per_s": ("0.5", 0.5),
    "trace_endpoint": ("https://collector:4318", "https://collector:4318"),
    "trace_rate": ("1", 1),
    "instance": ("pixelserve-7d9f-x2x9z", "pixelserve-7d9f-x2x9z"),
    "log_level": ("debug", "debug"),
    "log_format": ("text", "text"),
}

# Settings that are refused alone, and those that go with them.
COMPANIONS = {
    "tls_cert": ("tls_key",),
    "tls_key": ("tls_cert",),
    "tls_client_ca": ("tls_cert", "tls_key"),
    "metrics_tls": ("tls_cert", "tls_key"),
}


def test_the_table_of_values_has_every_setting() -> None:
    # The configuration file must exist, and has separate tests.
    assert VALUES.keys() | {"config"} == Settings.model_fields.keys()


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_is_one_environment_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_MODEL_REPOSITORY", "models")
    for each in (name, *COMPANIONS.get(name, ())):
        monkeypatch.setenv(f"PIXELSERVE_{each.upper()}", VALUES[each][0])
    assert getattr(parse_settings([]), name) == VALUES[name][1]


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_is_one_flag(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_MODEL_REPOSITORY", "models")
    for companion in COMPANIONS.get(name, ()):
        monkeypatch.setenv(f"PIXELSERVE_{companion.upper()}", VALUES[companion][0])
    text, value = VALUES[name]
    flag = "--" + name.replace("_", "-")
    args = [flag, text]
    if isinstance(value, bool):
        args = [flag if value else flag.replace("--", "--no-")]
    assert getattr(parse_settings(args), name) == value


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param(
            ["--grpc-port", "70000"],
            r"^--grpc-port \(or PIXELSERVE_GRPC_PORT\) is '70000': input should be less than or equal to 65535$",
            id="too large",
        ),
        pytest.param(
            ["--grpc-port", "many"],
            r"^--grpc-port \(or PIXELSERVE_GRPC_PORT\) is 'many': input should be a valid integer",
            id="no number",
        ),
        pytest.param(
            ["--device", "tpu"],
            r"^--device \(or PIXELSERVE_DEVICE\) is 'tpu': input should be 'auto', 'cpu' or 'cuda'$",
            id="no such choice",
        ),
        pytest.param(["--grace-s", "0"], r"^--grace-s \(or PIXELSERVE_GRACE_S\) is '0': .*greater than 0$", id="zero"),
        pytest.param(
            ["--max-connection-age-s", "0.5"],
            r"^--max-connection-age-s \(or PIXELSERVE_MAX_CONNECTION_AGE_S\) is 0\.5; expected at least 1, or 0 ",
            id="a moment",
        ),
        pytest.param(
            ["--instance", "two words"],
            r"^--instance \(or PIXELSERVE_INSTANCE\) is 'two words': string should match pattern",
            id="no name",
        ),
        pytest.param(["--max-connection-age-s", "inf"], r"'inf': .*less than or equal to 604800$", id="infinite"),
        pytest.param(["--max-connection-age-s", "nan"], r"'nan': .*less than or equal to 604800$", id="not a number"),
        pytest.param(
            ["--grpc-port", "-1", "--grace-s", "x"],
            r"--grpc-port \(or PIXELSERVE_GRPC_PORT\) is '-1'.*; --grace-s \(or PIXELSERVE_GRACE_S\) is 'x'",
            id="two at once",
        ),
    ],
)
def test_a_bad_value_names_flag_variable_and_what_is_wrong(args: list[str], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        parse_settings([*REPOSITORY, *args])


SPINNING, LIMIT = "session.intra_op.allow_spinning=1", "cuda.gpu_mem_limit=7"


@pytest.mark.parametrize(
    ("args", "file"),
    [
        pytest.param(["--session-option", SPINNING, "--session-option", LIMIT], "", id="two flags"),
        pytest.param([f"--session-option={SPINNING},{LIMIT}"], "", id="one flag"),
        pytest.param([], f"session_option = ['{SPINNING}', '{LIMIT}']", id="a list in a file"),
        pytest.param([], f"session_option = '{SPINNING},{LIMIT}'", id="a string in a file"),
    ],
)
def test_options_of_onnx_runtime_are_given_one_by_one_or_together(args: list[str], file: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(file)
    settings = parse_settings([*REPOSITORY, "--config", str(config), *args])
    assert settings.session_option == (SPINNING, LIMIT)
    config.write_text(describe(settings))
    assert parse_settings(["--config", str(config)]).session_option == (SPINNING, LIMIT)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("use_tf32=1", 'has "use_tf32=1"; expected KEY=VALUE, where KEY begins with session.,.* or openvino.$'),
        ("sesion.disable_prepacking=1", "expected KEY=VALUE"),
        ("cuda.use_tf32", "expected KEY=VALUE"),
        ("cuda.use_tf32=", "expected KEY=VALUE"),
        ("cuda.=1", "expected KEY=VALUE"),
        (f"session.a={'1' * 8193}", "expected KEY=VALUE"),
        (f"{SPINNING},", 'has "";'),
        ("", 'has "";'),
        ("cuda.device_id=1", 'has "cuda.device_id=1"; use --device-id instead'),
        ("cuda.enable_cuda_graph=1", "use --cuda-graphs instead"),
    ],
)
def test_an_option_that_is_not_onnx_runtimes_is_refused(option: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^--session-option \(or PIXELSERVE_SESSION_OPTION\) .*{said}"):
        parse_settings([*REPOSITORY, f"--session-option={option}"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tls-cert"], "^--tls-cert needs --tls-key;"),
        (["--tls-key"], "^--tls-key needs --tls-cert;"),
        (["--tls-client-ca"], "^--tls-client-ca needs --tls-cert and --tls-key:"),
        (["--tls-cert", "--tls-client-ca"], "^--tls-cert needs --tls-key;"),
    ],
)
def test_tls_files_that_belong_together_are_given_together(given: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_settings([*REPOSITORY, *(argument for flag in given for argument in (flag, "file.pem"))])


def test_encrypted_metrics_need_a_certificate() -> None:
    with pytest.raises(ConfigurationError, match=r"^--metrics-tls needs --tls-cert and --tls-key"):
        parse_settings([*REPOSITORY, "--metrics-tls"])


def test_a_bad_value_from_the_environment_names_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELSERVE_EXIT_ON_ERROR", "perhaps")
    with pytest.raises(StartupError, match=r"--exit-on-error \(or PIXELSERVE_EXIT_ON_ERROR\) is 'perhaps'"):
        parse_settings(REPOSITORY)


def test_a_setting_without_default_that_is_not_given_is_missing() -> None:
    with pytest.raises(StartupError, match=r"^--model-repository \(or PIXELSERVE_MODEL_REPOSITORY\) is missing$"):
        parse_settings([])


@pytest.mark.parametrize("args", [["--grpc-prot", "1"], ["surplus"], ["--grpc-port"]], ids=" ".join)
def test_arguments_that_do_not_exist_or_are_cut_off_exit_with_two(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_settings([*REPOSITORY, *args])
    assert caught.value.code == 2
    assert args[0] in capsys.readouterr().err


def test_help_shows_every_flag_in_its_group_with_description_and_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "10000")
    with pytest.raises(SystemExit) as caught:
        parse_settings(["--help"])
    assert caught.value.code == 0
    sections = dict(re.findall(r"^(\S[^\n]*):\n((?: [^\n]*\n)+)", capsys.readouterr().out, re.MULTILINE))
    for group, names in flags.groups().items():
        shown = " ".join(sections[group].split())
        for name in names:
            field = Settings.model_fields[name]
            default = flags.default_text(field)
            default = {"true": "on", "false": "off"}.get(default, default) if default else default
            ending = "  [required]" if field.is_required() else f"  [default: {default}]" if default else ""
            assert "--" + name.replace("_", "-") + " " in shown
            assert " ".join(f"{field.description}{ending}".split()) in shown


def test_every_setting_is_in_one_group() -> None:
    grouped = [name for names in flags.groups().values() for name in names]
    assert grouped == list(Settings.model_fields)
    assert GROUPS.keys() <= Settings.model_fields.keys()
    assert len(set(GROUPS.values())) == len(GROUPS)


def test_help_and_doctors_settings_load_no_engine_and_no_transport() -> None:
    heavy = ("onnxruntime", "numpy", "grpc", "h2corn", "starlette", "PIL", "google.protobuf")
    loaded = f"import sys, pixelserve_server.command as c; c.parse_settings({REPOSITORY}); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True, timeout=60)
    assert not [name for name in modules.stdout.split() if name in heavy]


def test_every_field_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_are_frozen() -> None:
    settings = parse_settings(REPOSITORY)
    with pytest.raises(ValidationError, match="frozen"):
        settings.grpc_port = 1


@pytest.mark.parametrize(
    ("suffix", "text"), [("toml", 'host = "::1"\ngrpc_port = 7\n'), ("yaml", "host: '::1'\ngrpc_port: 7\n")]
)
def test_a_configuration_file_loses_against_variables_and_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, text: str
) -> None:
    path = tmp_path / f"server.{suffix}"
    path.write_text(text)
    args = ["--model-repository", "models", "--config", str(path)]
    assert (parse_settings(args).host, parse_settings(args).grpc_port) == ("::1", 7)
    monkeypatch.setenv("PIXELSERVE_GRPC_PORT", "8")
    assert parse_settings(args).grpc_port == 8
    assert parse_settings([*args, "--grpc-port", "9"]).grpc_port == 9


def test_the_configuration_file_may_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "server.toml"
    path.write_text('model_repository = "elsewhere"\n')
    monkeypatch.setenv("PIXELSERVE_CONFIG", str(path))
    assert parse_settings([]).model_repository == Path("elsewhere")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("server.toml", "grpc_prot = 7", "has an unknown setting, grpc_prot"),
        ("server.toml", "grpc_port = ", "cannot be parsed"),
        ("server.yaml", "a: [", "cannot be parsed"),
        ("server.toml", "grpc_port = 70000", "--grpc-port (or PIXELSERVE_GRPC_PORT) is 70000"),
        ("server.ini", "", "expected a .toml, .yaml or .yml file"),
    ],
    ids=["an unknown key", "broken TOML", "broken YAML", "a wrong value", "another format"],
)
def test_a_wrong_configuration_file_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StartupError) as caught:
        parse_settings(["--model-repository", "models", "--config", str(tmp_path / name)])
    assert said in str(caught.value)


@pytest.mark.parametrize("suffix", ["toml", "yaml"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_configuration_file_may_come_from_windows(tmp_path: Path, suffix: str, encoding: str) -> None:
    path = tmp_path / f"server.{suffix}"
    text = 'host = "::1"\r\ngrpc_port = 7\r\n' if suffix == "toml" else 'host: "::1"\r\ngrpc_port: 7\r\n'
    path.write_bytes(text.encode(encoding))
    settings = parse_settings(["--model-repository", "models", "--config", str(path)])
    assert (settings.host, settings.grpc_port) == ("::1", 7)


def test_a_configuration_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="there is no such file"):
        parse_settings(["--model-repository", "models", "--config", str(tmp_path / "none.toml")])


def test_the_printed_configuration_is_a_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--model-repository", "models", "--grpc-port", "7", "--no-exit-on-error", "--drain-settle-s", "0.5"]
    assert main([*args, "--print-config"]) == 0
    path = tmp_path / "printed.toml"
    path.write_text(capsys.readouterr().out)
    again = parse_settings(["--config", str(path)])
    assert again.model_dump(exclude={"config"}) == parse_settings(args).model_dump(exclude={"config"})
