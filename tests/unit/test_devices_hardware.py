"""What the system shows of GPUs, why there may be none to use, and when the stack is another."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.devices import hardware
from app.devices.absence import TorchBuild, explain_absence
from app.devices.fingerprint import fingerprint, stack_facts

CUDA_BUILD = TorchBuild("2.7.1+cu118", "11.8", "")
CPU_BUILD = TorchBuild("2.7.1+cpu", "", "")
LOST = "CUDA unknown error - this may be due to an incorrectly set up environment"
OLD = "The NVIDIA driver on your system is too old (found version 11040)."


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The files of a machine with one NVIDIA card."""
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text(
        "Model: \t\t NVIDIA GeForce RTX 3090\nIRQ:   \t\t 76\n"
        "GPU UUID: \t GPU-1a2b\nBus Location: \t 0000:01:00.0\n"
    )
    (tmp_path / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 1\n"
    )
    boot = tmp_path / "proc/sys/kernel/random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text("first\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 2048 kB\nMemAvailable:  1024 kB\n")
    return tmp_path


def test_nvidia_card_is_read_from_proc(machine: Path) -> None:
    assert hardware.nvidia_gpus(machine) == ("NVIDIA GeForce RTX 3090, GPU-1a2b, 0000:01:00.0",)
    assert hardware.driver_version(machine) == "570.86.15"
    assert hardware.boot_id(machine) == "first"
    assert hardware.host_memory(machine) == (1024 * 1024, 2048 * 1024)


def test_device_nodes_stand_in_for_proc(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert hardware.nvidia_gpus(tmp_path) == ()
    (tmp_path / "dev/nvidia0").touch()
    assert hardware.nvidia_gpus(tmp_path) == ("/dev/nvidia0",)


def test_wsl_shows_its_gpu_as_dxg(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").touch()
    assert hardware.nvidia_gpus(tmp_path) == ("/dev/dxg",)


def test_amd_counts_nodes_with_a_gpu_id(tmp_path: Path) -> None:
    nodes = tmp_path / "sys/class/kfd/kfd/topology/nodes"
    for name, gpu_id in (("0", "0"), ("1", "45312")):
        (nodes / name).mkdir(parents=True)
        (nodes / name / "gpu_id").write_text(gpu_id + "\n")
    assert hardware.amd_gpus(tmp_path) == ()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").touch()
    assert hardware.amd_gpus(tmp_path) == ("kfd node 1, GPU id 45312",)


def test_bare_machine_has_nothing(tmp_path: Path) -> None:
    assert hardware.nvidia_gpus(tmp_path) == ()
    assert hardware.driver_version(tmp_path) == ""
    assert hardware.host_memory(tmp_path) == (None, None)


@pytest.mark.parametrize(
    ("build", "gpus", "said", "hidden_by", "verdict", "words"),
    [
        (CUDA_BUILD, (), "Found no NVIDIA driver", None, "no_gpu", "no GPU"),
        (CPU_BUILD, ("RTX 3090",), "not compiled", None, "no_gpu", "build for the CPU"),
        (CUDA_BUILD, ("RTX 3090",), LOST, None, "gpu_lost", "not for this process"),
        (CUDA_BUILD, ("RTX 3090",), "No CUDA GPUs are available", None, "gpu_lost", "not for"),
        (CUDA_BUILD, ("RTX 3090",), OLD, None, "gpu_dead", "too old"),
        (CUDA_BUILD, ("RTX 3090",), "something else", None, "gpu_dead", "something else"),
        (CUDA_BUILD, ("RTX 3090",), LOST, "CUDA_VISIBLE_DEVICES", "no_gpu", "hides"),
    ],
)
def test_absence_is_explained(
    build: TorchBuild,
    gpus: tuple[str, ...],
    said: str,
    hidden_by: str | None,
    verdict: str,
    words: str,
) -> None:
    absence = explain_absence(build, gpus, said, hidden_by)
    assert absence.verdict == verdict
    assert words in absence.detail


def test_directml_is_recognised_and_refused_in_words() -> None:
    absence = explain_absence(TorchBuild("2.4.1", "", "", has_directml=True), (), "")
    assert (absence.verdict, absence.backend) == ("no_gpu", "directml")
    assert "DirectML" in absence.detail
    assert "WSL2" in absence.detail


def test_fingerprint_is_steady(machine: Path) -> None:
    assert fingerprint(machine) == fingerprint(machine)


def test_fingerprint_changes_with_boot_driver_and_gpu(machine: Path) -> None:
    seen = {fingerprint(machine)}
    (machine / "proc/sys/kernel/random/boot_id").write_text("second\n")
    seen.add(fingerprint(machine))
    (machine / "proc/driver/nvidia/version").write_text("Kernel Module  580.1\n")
    seen.add(fingerprint(machine))
    (machine / "dev").mkdir()
    information = machine / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    information.write_text("Model: NVIDIA GeForce RTX 4090\n")
    seen.add(fingerprint(machine))
    assert len(seen) == 4


def test_fingerprint_changes_with_the_library_path_and_its_cufft(
    machine: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("cuda")
    seen = {fingerprint(machine)}
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    seen.add(fingerprint(machine))
    (folder / "libcufft.so.10").write_bytes(b"one build")
    seen.add(fingerprint(machine))
    (folder / "libcufft.so.10").write_bytes(b"another build")
    seen.add(fingerprint(machine))
    assert len(seen) == 4


def test_fingerprint_knows_the_packages_in_play() -> None:
    facts = stack_facts()
    assert facts["package torch"].startswith("2.")
    assert facts["platform"]


def test_parent_side_imports_no_torch_and_is_quick() -> None:
    code = (
        "import sys\n"
        "import app.devices.command, app.devices.probe, app.devices.routes\n"
        "from app.devices.fingerprint import fingerprint\n"
        "fingerprint()\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
    fingerprint()
    times_s = []
    for _ in range(5):
        started = time.perf_counter()
        fingerprint()
        times_s.append(time.perf_counter() - started)
    assert min(times_s) < 0.05
