"""Chooses a model's execution provider."""

from collections.abc import Callable
from pathlib import Path

from ...errors import StartupError
from .base import Provider, SessionOptions
from .cpu import Cpu
from .cuda import Cuda

CPU = Cpu()
PROVIDERS: tuple[Provider, ...] = (Cuda(), CPU)
"""All providers, in order of preference."""
FLAGS = tuple(flag for provider in PROVIDERS for flag in provider.flags)
"""Names of the settings that one provider defines."""
_BY_NAME = {provider.name: provider for provider in PROVIDERS}


def provider_at(name: str) -> Provider:
    """Returns the provider with ONNX Runtime's name."""
    return _BY_NAME[name]


def suits(provider: Provider, device: str) -> bool:
    """Returns whether a device (`SessionOptions.device`) allows a provider."""
    return device in ("auto", provider.key) or (device == "gpu" and provider.on_gpu)


def choose(options: SessionOptions) -> Provider:
    """Returns the provider to open a model with: the CPU's if none that the options allow is available."""
    return next((each for each in PROVIDERS if suits(each, options.device) and each.is_available()), CPU)


def asked_by(options: SessionOptions) -> tuple[str, str]:
    """Returns the flag that selects a GPU or provider, and an alternative; both empty if no flag does."""
    if options.require_gpu:
        return "--require-gpu", "--no-require-gpu"
    asks = options.device not in ("auto", CPU.key)
    return (f"--device {options.device}", "--device auto") if asks else ("", "")


def requires_gpu(options: SessionOptions) -> bool:
    """Returns whether running on the CPU is an error."""
    return options.require_gpu or any(each.on_gpu and each.key == options.device for each in PROVIDERS)


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
    if suits(provider, options.device) and (provider.on_gpu or not options.require_gpu):
        if provider is CPU:
            for each in PROVIDERS:
                for sentence in each.unused(options):
                    note(sentence)
        return
    asked, remedy = asked_by(options)
    if options.device == CPU.key:
        raise StartupError(
            f"{asked}: {model} is to be computed on the CPU; "
            f"change instance_group in its config.pbtxt to KIND_GPU, or use {remedy}"
        )
    raise StartupError(
        f"{asked}: {model} was loaded on {name}, because no GPU or no {choose(options).title} library answers; "
        f"check nvidia-smi, or use {remedy}"
    )
