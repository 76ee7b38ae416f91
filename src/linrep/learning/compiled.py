"""Compiled programs kept on disk, so that a second process trains at once.

The only file that changes JAX's configuration, and only when it is called: the command line does, the library never.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import jax

_PROCESSOR = Path("/proc/cpuinfo")


def keep_compiled(folder: Path) -> None:
    """Let JAX keep what it compiles in a folder, one for each kind of processor; a cache the user has set stays.

    A folder that cannot be used costs the time of compiling, nothing else.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(folder / _processor()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # its default of 1 s would keep nothing


def _processor() -> str:
    """What the machine code is for: code for one processor may crash another that shares the home folder."""
    try:
        told = [line for line in _PROCESSOR.read_text().splitlines() if line.startswith(("flags", "Features"))][:1]
    except OSError:
        told = [platform.processor()]
    return f"{platform.machine()}-{hashlib.sha256(''.join(told).encode()).hexdigest()[:8]}"
