"""The server's settings: each field is a flag, an environment variable and a row in the docs."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "PIXELSERVE_"

_OPTION_GROUPS = "session., optimization., mlas., ep., cuda. or openvino."
# ONNX Runtime's length limits.
_SESSION_OPTION = re.compile(r"(session|optimization|mlas|ep|cuda|openvino)\.[\w.]{1,1000}=.{1,8192}")
# Their flags also change what the server does.
_OPTIONS_WITH_FLAGS = {"cuda.device_id": "--device-id", "cuda.enable_cuda_graph": "--cuda-graphs"}
MIB = 1024 * 1024


GROUPS = {
    "model_repository": "Models",
    "host": "Addresses",
    "tls_cert": "Security",
    "device": "Compute",
    "batch_buckets": "Batching",
    "max_queue_size": "Queues and limits",
    "max_images": "Pictures",
    "transport": "Connections",
    "drain_settle_s": "Shutdown",
    "log_level": "Logs, traces and drift",
    "config": "Configuration",
}
"""The groups of settings in `--help` and the docs, by first field; a group ends before the next one's first field."""


class Settings(BaseSettings):
    """The server's settings, frozen and checked; `GROUPS` names their groups."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    model_repository: Path = Field(
        description="Folder of models in Triton's layout: <name>/<version>/model.onnx.",
    )
    model_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Model name if --model-repository is the folder of one model or version, as KServe mounts it.",
    )
    model_control_mode: Literal["none", "poll", "explicit"] = Field(
        "none",
        description="When models are loaded and unloaded: at start-up only (none), when files change (poll), or on "
        "RepositoryModelLoad and RepositoryModelUnload (explicit).",
    )
    load_models: str | None = Field(
        None, description="With explicit: models to load at start-up, separated by commas; * loads all."
    )
    repository_poll_s: float = Field(
        15.0, gt=0, description="With poll: seconds between scans of the repository, in addition to file events."
    )
    max_load_files_mib: int = Field(
        2048, ge=0, description="With explicit: MiB of files sent with RepositoryModelLoad that may be on disk at once."
    )
    require_card: bool = Field(
        False, description="Refuse versions without a card instead of marking them as unverified."
    )
    exit_on_error: bool = Field(
        True, description="Exit if a model fails at start-up; otherwise serve the others and report not ready."
    )
    default_max_batch_size: int = Field(
        64, ge=1, description="Largest batch for models that batch and have no config.pbtxt."
    )

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; 0.0.0.0 for all networks. Other than loopback requires TLS and tokens, or "
        "--insecure.",
    )
    grpc_port: int = Field(8001, ge=0, le=65535, description="Port of the gRPC API; 0 picks a free one.")
    http: bool = Field(True, description="Serve the v2 protocol and picture uploads over HTTP too.")
    http_port: int = Field(8000, ge=0, le=65535, description="Port of the HTTP API; 0 picks a free one.")
    page: bool = Field(True, description="Serve the page to try models at / of the HTTP port.")
    metrics_port: int = Field(
        8002, ge=0, le=65535, description="Port of /metrics, /live and /ready; 0 picks a free one."
    )
    allowed_hosts: str | None = Field(
        None,
        pattern=r"^[\w.*:\[\]-]+(,[\w.*:\[\]-]+)*$",
        description="More names and addresses, separated by commas, to accept in Host and, from web pages, in Origin: "
        "*.example.com for all subdomains, * for any. Default: none on loopback, any elsewhere.",
    )

    tls_cert: Path | None = Field(
        None, description="PEM file of the server's certificate and its intermediates; gRPC and HTTP then require TLS."
    )
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, unencrypted.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of CAs; clients must then present a certificate signed by one (mutual TLS)."
    )
    metrics_tls: bool = Field(
        False, description="Encrypt the metrics port too, with the same certificate and without client certificates."
    )
    tokens: Path | None = Field(
        None, description="File of the tokens that clients must send (docs/security.md); reloaded when it changes."
    )
    insecure: bool = Field(
        False, description="Listen on an address that other machines can reach without TLS or without tokens."
    )
    system_shared_memory: bool = Field(
        False,
        description="Let clients pass tensors through POSIX shared memory of this machine; every client can then read "
        "and write all shared memory that this process can.",
    )

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models run; auto: CUDA if ONNX Runtime supports it and there is a GPU."
    )
    engine: Literal["auto", "onnxruntime", "openvino"] = Field(
        "onnxruntime",
        description="What computes models on the CPU: onnxruntime; openvino, in float32; auto: what `pixelserve "
        "autotune` measured to be fastest on this machine, in the precision that it proved, else onnxruntime.",
    )
    device_id: int = Field(
        0, ge=0, description="CUDA's number of the GPU for models whose config.pbtxt does not select one."
    )
    require_gpu: bool = Field(False, description="Refuse to start if any model would run on the CPU.")
    intra_op_threads: int = Field(
        0,
        ge=0,
        description="Threads that compute one batch; 0: the usable cores, divided among a model's sessions. If their "
        "number changes while the server runs, models are loaded again.",
    )
    session_option: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="KEY=VALUE of ONNX Runtime's session configuration, such as session.intra_op.allow_spinning=1, or "
        "of its CUDA provider, such as cuda.gpu_mem_limit=2147483648, or a property of OpenVINO, such as "
        "openvino.INFERENCE_PRECISION_HINT=bf16; repeat it or separate by commas.",
    )
    cuda_arena_shrink: bool = Field(
        False,
        description="Release unused GPU memory after batches of sizes that were not warmed; not with CUDA graphs.",
    )
    cuda_graphs: bool = Field(
        False, description="Run each warmed batch size as one CUDA graph if the model supports it."
    )

    batch_buckets: str = Field(
        "auto",
        pattern=r"^(auto|none|powers|[1-9][0-9]{0,6}(,[1-9][0-9]{0,6})*)$",
        description="Batch sizes to pad to: none, powers (of two), or sizes such as 1,8,64; auto: powers on CUDA, none "
        "on the CPU.",
    )
    limit_batches: bool = Field(
        True,
        description="Limit batches to the smallest size that reached the best measured throughput; otherwise to the "
        "model's max_batch_size.",
    )
    warmup_s: float = Field(
        0.5,
        ge=0,
        description="Seconds to run and time batch sizes when a version is loaded; sizes above the largest timed one "
        "are not used. On CUDA every size is run.",
    )
    warmup_mib: int = Field(
        256, ge=0, description="MiB by which warming may grow the process; batch sizes that need more are not run."
    )
    run_on_arrival: bool = Field(
        True,
        description="Compute requests to an idle model on the thread that received them if that takes less than "
        "300 µs.",
    )

    max_queue_size: int = Field(
        1024, ge=1, description="Requests that may wait for one model, unless its config.pbtxt says otherwise."
    )
    shed_delay_ms: float = Field(
        1000.0,
        ge=0,
        description="Milliseconds that requests may wait for a model under sustained overload, or one run if that is "
        "longer; others are refused with RESOURCE_EXHAUSTED. 0: no limit.",
    )
    target_p99_ms: float = Field(
        0.0,
        ge=0,
        description="Milliseconds within which 99 of 100 accepted requests are answered; requests that would take "
        "longer are refused with RESOURCE_EXHAUSTED. A model's parameter target_p99_ms overrides it. 0: no target.",
    )
    max_inflight_mib: int = Field(
        512, ge=1, description="MiB of requests in flight in the whole server; more are refused."
    )
    max_message_mib: int = Field(64, ge=1, le=2047, description="MiB of the largest gRPC message or HTTP body.")
    max_json_mib: int = Field(
        4,
        ge=1,
        le=2047,
        description="MiB of JSON in one HTTP body; parsing blocks all other requests. Binary tensors are not counted.",
    )
    max_concurrent_streams: int = Field(
        1024, ge=1, description="Calls that one connection may have in flight; clients hold back more."
    )
    max_infer_streams: int = Field(
        32, ge=1, description="ModelStreamInfer calls open at once in the whole server; each uses a thread."
    )
    stream_window: int = Field(
        64, ge=1, description="Requests of one ModelStreamInfer call that are read before their answers are sent."
    )
    triton_status_codes: bool = Field(
        False,
        description="Answer UNAVAILABLE, as Triton does, for full queues and passed deadlines, instead of "
        "RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED.",
    )

    max_images: int = Field(
        64, ge=1, description="Pictures per Classify request; the model's max_batch_size limits them too."
    )
    max_image_pixels: int = Field(
        50_000_000,
        ge=1,
        description="Pixels (width × height) of one picture, checked before decoding; a request may have 32 times as "
        "many.",
    )
    max_decode_mib: int = Field(
        1024,
        ge=64,
        description="MiB for decoding pictures: each waits until its memory is free; pictures that need more are "
        "refused by their header.",
    )
    decode_threads: int = Field(2, ge=1, description="Threads that decode pictures.")

    transport: Literal["auto", "h2corn", "grpcio"] = Field(
        "auto",
        description="Transport of gRPC; auto: h2corn if installed, else grpcio, which is slower. HTTP needs h2corn.",
    )
    max_connections: int = Field(
        2048, ge=1, description="Connections to the gRPC port, and as many to the HTTP port; more wait."
    )
    max_header_kib: int = Field(16, ge=16, description="KiB of the headers of one request.")
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        le=604_800,
        description="Seconds (±10 %) after which connections are closed gracefully, so clients reconnect and find new "
        "servers; 0: never.",
    )
    idle_connection_timeout_s: float = Field(
        300.0, ge=0, description="Seconds without a call after which a connection is closed; 0: never."
    )
    handshake_timeout_s: float = Field(
        5.0, gt=0, description="Seconds for the TLS and HTTP/2 handshakes of a new connection."
    )
    idle_body_timeout_s: float = Field(
        10.0, gt=0, description="Seconds that an incomplete request may pause; streams have no limit."
    )
    unread_answer_timeout_s: float = Field(
        10.0, gt=0, description="Seconds that a client may leave an answer unread before its call is cancelled."
    )

    drain_settle_s: float = Field(
        0.0,
        ge=0,
        description="Seconds to keep accepting requests after health reports NOT_SERVING, for load balancers.",
    )
    grace_s: float = Field(30.0, gt=0, description="Seconds for accepted requests to finish when the server stops.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level to log.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object per line, or text for people.")
    access_log_per_s: float = Field(
        10.0, ge=0, description="Log lines per second for answered calls, and as many for failed calls; 0: none."
    )
    instance: str = Field(
        "",
        pattern=r"^[!-~]{0,253}$",
        description="Name of this replica, such as its pod's, in log lines and traces (service.instance.id).",
    )
    trace_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="OpenTelemetry collector to send traces to (OTLP over HTTP), such as http://localhost:4318; needs "
        "the extra otel.",
    )
    trace_rate: int = Field(
        1000, ge=0, description="Trace one in this many calls whose client does not decide; 0: none."
    )
    drift_window: int = Field(
        1000, ge=0, le=1_000_000, description="Recent predictions to compare with a classifier's card; 0: none."
    )

    config: Path | None = Field(
        None, description=".toml or .yaml file of settings; flags and environment variables override it."
    )
    print_config: bool = Field(False, description="Print the resulting settings as TOML and exit.")

    @field_validator("session_option", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            return value
        return tuple(part for each in given for part in each.split(","))

    @field_validator("session_option")
    @classmethod
    def _is_of_onnx_runtime(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            # ONNX Runtime accepts any key, so only the prefix can be checked.
            if not _SESSION_OPTION.fullmatch(option):
                raise ValueError(f'has "{option}"; expected KEY=VALUE, where KEY begins with {_OPTION_GROUPS}')
            flag = _OPTIONS_WITH_FLAGS.get(option.split("=")[0])
            if flag is not None:
                raise ValueError(f'has "{option}"; use {flag} instead')
        return options

    @field_validator("max_connection_age_s")
    @classmethod
    def _is_no_shorter_than_a_second(cls, value: float) -> float:
        # Each replacement delays calls and makes every client reconnect.
        if 0 < value < 1:
            raise ValueError(f"is {value:g}; expected at least 1, or 0 to let connections live")
        return value

    @model_validator(mode="after")
    def _tls_files_belong_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("--tls-cert", "--tls-key") if self.tls_key is None else ("--tls-key", "--tls-cert")
            raise ValueError(f"{given} needs {missing}; give both, or neither to serve without TLS")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key: client certificates are part of TLS")
        if self.metrics_tls and self.tls_cert is None:
            raise ValueError("--metrics-tls needs --tls-cert and --tls-key, whose certificate it uses")
        return self

    @model_validator(mode="after")
    def _openvino_is_for_the_cpu(self) -> Self:
        if self.engine == "openvino" and (self.require_gpu or self.device == "cuda"):
            flag = "--require-gpu" if self.require_gpu else "--device cuda"
            raise ValueError(f"--engine openvino computes on the CPU and contradicts {flag}; omit one of them")
        return self

    @model_validator(mode="after")
    def _one_model_does_not_change(self) -> Self:
        if self.model_name is not None and self.model_control_mode != "none":
            raise ValueError(
                f"--model-name serves the folder as it is at start-up, and --model-control-mode "
                f"{self.model_control_mode} changes what is served; omit one of them"
            )
        return self
