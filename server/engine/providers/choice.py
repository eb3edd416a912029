"""Chooses a model's execution providers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...errors import StartupError
from .base import EngineChoice, Executor, Provider, SessionOptions
from .by_size import BySize
from .cpu import Cpu
from .cuda import Cuda
from .openvino import OpenVino

CPU = Cpu()
PROVIDERS: tuple[Provider, ...] = (Cuda(), CPU, OpenVino())
"""All providers, in order of preference among those of one engine."""
FLAGS = tuple(flag for provider in PROVIDERS for flag in provider.flags)
"""Names of the settings that one provider defines."""
_BY_NAME = {provider.name: provider for provider in PROVIDERS}


def provider_at(name: str) -> Provider:
    """Returns the provider with a name (`Provider.name`)."""
    return _BY_NAME[name]


def suits(provider: Provider, device: str, engine: str) -> bool:
    """Returns whether a device (`SessionOptions.device`) and an engine allow a provider."""
    on_device = device in ("auto", provider.device) or (device == "gpu" and provider.on_gpu)
    return on_device and provider.engine == engine


def choose(options: SessionOptions, engine: EngineChoice | None = None) -> Provider:
    """Returns the provider to open a model with: ONNX Runtime's on the CPU if none that the options allow is available.

    Args:
        options: the session's options.
        engine: one of its engines; None: that of the largest batches.
    """
    name = (engine or options.engine).engine
    return next((each for each in PROVIDERS if suits(each, options.device, name) and each.is_available()), CPU)


def open_model(
    model: Path, options: SessionOptions, threads: int, note: Callable[[str], None], *, plain: bool = False
) -> Executor:
    """Opens a model with all engines of the options; arguments and errors are those of `Provider.open`."""
    opened: list[tuple[int, Executor]] = []
    for engine in options.engines:
        alone = replace(options, engines=(engine,))
        opened.append((engine.from_rows, choose(alone).open(model, alone, threads, note, plain=plain)))
    return opened[0][1] if len(opened) == 1 else BySize(opened)


def asked_by(options: SessionOptions) -> tuple[str, str]:
    """Returns the flag that selects a GPU or provider, and an alternative; both empty if no flag does."""
    if options.require_gpu:
        return "--require-gpu", "--no-require-gpu"
    asks = options.device not in ("auto", CPU.device)
    return (f"--device {options.device}", "--device auto") if asks else ("", "")


def requires_gpu(options: SessionOptions) -> bool:
    """Returns whether running on the CPU is an error."""
    return options.require_gpu or any(each.on_gpu and each.device == options.device for each in PROVIDERS)


def refuse_or_note(model: Path, options: SessionOptions, name: str, note: Callable[[str], None]) -> None:
    """Checks the provider that a model was opened on against the options.

    Args:
        model: the file.
        options: the session's options.
        name: the name of the model's provider.
        note: receives a sentence for each option that has no effect on the CPU.

    Raises:
        StartupError: the options select another provider, or require a GPU.
    """
    provider = provider_at(name)
    if suits(provider, options.device, provider.engine) and (provider.on_gpu or not options.require_gpu):
        if provider is CPU:
            for each in PROVIDERS:
                for sentence in each.unused(options):
                    note(sentence)
        return
    asked, remedy = asked_by(options)
    if options.device == CPU.device:
        raise StartupError(
            f"{asked}: {model} is to be computed on the CPU; "
            f"change instance_group in its config.pbtxt to KIND_GPU, or use {remedy}"
        )
    raise StartupError(
        f"{asked}: {model} was loaded on {name}, because no GPU or no {choose(options).title} library answers; "
        f"check nvidia-smi, or use {remedy}"
    )
