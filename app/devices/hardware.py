"""What the operating system says of accelerators, without torch and without asking a driver.

Reads only files of /proc, /sys and /dev, because a call into a broken driver may hang for ever.
Every function takes the root folder, so that a test can lay out another machine.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

ROOT = Path("/")
_MEMINFO_UNIT_BYTES = 1024
_DRIVER_FOLDERS = (
    *("usr/lib/wsl/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu"),
    *("usr/lib64", "usr/local/nvidia/lib64"),
)


def nvidia_gpus(root: Path = ROOT) -> tuple[str, ...]:
    """Returns one description a GPU of NVIDIA's (model, UUID, bus), empty without any.

    Inside a container the descriptions may be missing while the device nodes are there, and under
    WSL there is only /dev/dxg; then the nodes' names stand for the GPUs.
    """
    folder = root / "proc/driver/nvidia/gpus"
    described = [_describe_gpu(path) for path in sorted(folder.glob("*/information"))]
    if described:
        return tuple(described)
    nodes = sorted(path.name for path in (root / "dev").glob("nvidia[0-9]*"))
    if not nodes and (root / "dev/dxg").exists():
        nodes = ["dxg"]
    return tuple(f"/dev/{name}" for name in nodes)


def amd_gpus(root: Path = ROOT) -> tuple[str, ...]:
    """Returns the names of AMD's compute nodes that are GPUs (a CPU node has GPU id 0)."""
    if not (root / "dev/kfd").exists():
        return ()
    nodes = sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*"))
    ids = ((node.name, _read(node / "gpu_id")) for node in nodes)
    return tuple(
        f"kfd node {name}, GPU id {gpu_id}" for name, gpu_id in ids if gpu_id not in ("", "0")
    )


def driver_version(root: Path = ROOT) -> str:
    """Returns the GPU driver's version such as `570.86.15`, or an empty text."""
    nvidia = re.search(r"Module\s+([\d.]+)", _read(root / "proc/driver/nvidia/version"))
    if nvidia:
        return nvidia.group(1)
    return _read(root / "sys/module/amdgpu/version")


def driver_files(root: Path = ROOT) -> tuple[str, ...]:
    """Returns the user-side driver libraries with size and age: they change with the driver.

    They stand in for the version where /proc has none (WSL, some containers).
    """
    paths = (
        path for folder in _DRIVER_FOLDERS for path in sorted((root / folder).glob("libcuda.so*"))
    )
    return tuple(identity_of(path) for path in paths)


def boot_id(root: Path = ROOT) -> str:
    """Returns an id that changes with each start of the machine; empty where there is none."""
    return _read(root / "proc/sys/kernel/random/boot_id")


def host_memory(root: Path = ROOT) -> tuple[int | None, int | None]:
    """Returns (available, total) memory of the machine in bytes, None where it does not say."""
    text = _read(root / "proc/meminfo")
    found = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}
    free, total = found.get("MemAvailable"), found.get("MemTotal")
    return (
        None if free is None else free * _MEMINFO_UNIT_BYTES,
        None if total is None else total * _MEMINFO_UNIT_BYTES,
    )


def memory_limit(root: Path = ROOT) -> int | None:
    """Returns the memory in bytes that this process may use: the machine's, or its container's.

    None where neither says. A limit of a cgroup (version 2, then 1) counts where it is the smaller.
    """
    limits = [host_memory(root)[1]]
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _read(root / name)
        limits.append(int(text) if text.isdigit() else None)
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def processor_flags(root: Path = ROOT) -> frozenset[str]:
    """Returns what the first processor can do, in Linux' words, such as `avx512_vnni`."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", _read(root / "proc/cpuinfo"), re.M)
    return frozenset(found[1].split()) if found else frozenset()


def platform_name() -> str:
    """Returns system and machine in one line, such as `Linux 6.1 x86_64`."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def identity_of(path: Path) -> str:
    """Returns path, size and modification time of a file: enough to see that it was changed."""
    try:
        seen = path.stat()
    except OSError:
        return f"{path} (unreadable)"
    return f"{path.resolve()} {seen.st_size} {seen.st_mtime_ns}"


def _describe_gpu(path: Path) -> str:
    wanted = ("Model", "GPU UUID", "Bus Location")
    fields = dict(re.findall(r"^([\w .]+?):\s+(.*)$", _read(path), re.M))
    return ", ".join(fields[name].strip() for name in wanted if name in fields)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
