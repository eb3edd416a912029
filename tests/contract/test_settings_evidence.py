"""Every setting has a test that changes it from its default and shows the effect."""

import re
from pathlib import Path

import pytest

from pixelserve_server import flags
from pixelserve_server.settings import Settings

TESTS = Path(__file__).resolve().parent.parent
# The file whose test shows a setting's effect. tests/unit/server/test_settings.py only shows how each is given.
EVIDENCE = {
    "integration/frames/test_published_faults.py": ["max_json_mib"],
    "integration/frames/test_slow_clients.py": [
        *("handshake_timeout_s", "idle_body_timeout_s", "idle_connection_timeout_s", "max_connections"),
        "unread_answer_timeout_s",
    ],
    "integration/test_access_log.py": ["access_log_per_s", "log_level"],
    "integration/test_changed_settings.py": [
        *("default_max_batch_size", "max_decode_mib", "max_header_kib", "max_image_pixels", "max_load_files_mib"),
        *("shed_delay_ms", "target_p99_ms", "warmup_mib"),
    ],
    "integration/test_engines.py": ["engine"],
    "integration/test_features_off.py": ["run_on_arrival", "transport"],
    "integration/test_life.py": ["batch_buckets", "drain_settle_s", "grace_s", "limit_batches", "warmup_s"],
    "integration/test_limits.py": ["max_concurrent_streams", "max_inflight_mib"],
    "integration/test_log.py": ["grpc_port", "http_port", "metrics_port"],
    "integration/test_metrics.py": ["drift_window"],
    "integration/test_model_name.py": ["model_name", "model_repository"],
    "integration/test_page_rest.py": ["page"],
    "integration/test_protocol.py": ["max_message_mib", "max_queue_size"],
    "integration/test_repository_control.py": ["load_models", "model_control_mode", "repository_poll_s"],
    "integration/test_rest_cross_site.py": ["allowed_hosts"],
    "integration/test_rest_life.py": ["http"],
    "integration/test_rest_pictures.py": ["max_images"],
    "integration/test_shared_memory.py": ["system_shared_memory"],
    "integration/test_startup_errors.py": ["device", "exit_on_error", "require_card", "require_gpu"],
    "integration/test_status_table.py": ["triton_status_codes"],
    "integration/test_stream.py": ["max_infer_streams", "stream_window"],
    "integration/test_tls_docs.py": ["tls_cert", "tls_key"],
    "integration/test_tokens.py": ["host", "insecure", "tokens"],
    "integration/test_traces.py": ["instance", "trace_endpoint", "trace_rate"],
    "integration/transports/test_connection_age.py": ["max_connection_age_s"],
    "integration/transports/test_tls.py": ["metrics_tls", "tls_client_ca"],
    # What these change is the session's: unit/server/test_gpu.py, on a real GPU too.
    "unit/server/test_providers.py": [
        *("cuda_graphs", "device_id", "intra_op_threads", "session_option"),
    ],
    "unit/server/test_gpu.py": ["cuda_arena_shrink"],
    "unit/server/test_factories.py": ["decode_threads"],
    "unit/server/test_log_output.py": ["log_format"],
    "unit/server/test_settings.py": ["config", "print_config"],
}


def test_every_setting_is_in_the_table_once() -> None:
    listed = [name for names in EVIDENCE.values() for name in names]
    assert sorted(listed) == sorted(Settings.model_fields)


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in EVIDENCE.items() for name in names])
def test_a_test_sets_the_setting_to_another_value_than_its_default(file: str, name: str) -> None:
    default = flags.default_text(Settings.model_fields[name])
    flag = name.replace("_", "-")
    text = (TESTS / file).read_text()
    if default in ("true", "false"):
        flag, default = f"no-{flag}" if default == "true" else flag, None
    values = re.findall(rf'--{flag}(?:=|", ")([^",\s]+)', text)
    is_elsewhere = re.search(rf'--{flag}"|\b{name}=|"{name}"', text) is not None
    assert [value for value in values if value != default] or (is_elsewhere and not values), f"it sets no --{flag}"
