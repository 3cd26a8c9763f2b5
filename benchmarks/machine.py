"""What the figures were measured on."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any, Final

from deesc_model.network import available_cpus

INSTRUCTIONS: Final = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
"""What decides how fast matrices are multiplied."""

PACKAGES: Final = ("onnxruntime", "tokenizers", "torch", "transformers", "openvino", "scikit-learn")


def machine() -> dict[str, Any]:
    """Return CPU, cores that may be used, instructions, system and versions."""
    about = _cpuinfo()
    flags = about.get("flags", "").split()
    return {
        "cpu": about.get("model name", platform.processor() or platform.machine()),
        "cores": available_cpus(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _cpuinfo() -> dict[str, str]:
    """Return what Linux says of the first core."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
