"""The command line as a user types it: real processes, real model, exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import soundfile
import torch

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
TEXT = "The wind rose before the morning came."


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_speak_writes_a_file_and_tells_what_it_made(tmp_path: Path) -> None:
    out = tmp_path / "speech.wav"
    result = run("speak", "--out", str(out), "--seed", "7", "--json", TEXT)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    samples, rate = soundfile.read(out)
    assert rate == 24000
    assert samples.ndim == 1
    assert told["duration_s"] == pytest.approx(len(samples) / rate, abs=0.001)
    assert (told["seed"], told["model"], told["verdict"]) == (7, "builtin", "ok")

    again = tmp_path / "again.flac"
    assert run("speak", "--out", str(again), "--seed", "7", TEXT).returncode == 0
    assert (soundfile.read(again)[0] == samples).all()


def test_speak_reads_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "speech.mp3"
    result = subprocess.run(
        [sys.executable, "-m", "app", "speak", "--out", str(out), "-"],
        input="Good morning.",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert soundfile.info(out).duration > 0.2


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (["--out", "speech.doc", TEXT], {}, "OUT=speech.doc"),
        (["--out", "README.md/speech.wav", TEXT], {}, "OUT=README.md/speech.wav"),
        (["  "], {}, "TEXT is empty"),
        (["?!"], {}, "input"),
        (["--voice", "nobody", TEXT], {}, "kathleen"),
        (["--language", "pt", TEXT], {}, "language"),
        (["--speed", "99", TEXT], {}, "speed"),
        ([TEXT], {"DEFAULT_MODEL": "no/such/folder"}, "no/such/folder"),
        ([TEXT], {"DEFAULT_MODEL": "README.md"}, "README.md"),
        ([TEXT], {"DEFAULT_MODEL": "xtts-v2", "MODELS_DIR": "/nonexistent"}, "COQUI_TOS_AGREED=1"),
        ([TEXT], {"MAX_QUEUE": "none"}, "MAX_QUEUE"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], env: dict[str, str], says: str
) -> None:
    if "--out" not in arguments:
        arguments = ["--out", str(tmp_path / "speech.wav"), *arguments]
    result = run("speak", *arguments, **env)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def write_stock_folder(folder: Path, weights: object) -> Path:
    """Writes the built-in model as a stock folder whose `model.pth` holds `weights`."""
    folder.mkdir()
    for name in ("config.json", "decoder.json", "vocab.json"):
        (folder / name).write_bytes((ROOT / "app/builtin" / name).read_bytes())
    torch.save({"model": weights}, folder / "model.pth")
    return folder


class Code:
    """A pickle that runs a command when it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_a_model_file_with_code_or_cut_short_is_named_and_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    evil = write_stock_folder(tmp_path / "evil", Code(f"touch {ran}"))
    cut = write_stock_folder(tmp_path / "cut", {"gpt.mel_head.bias": torch.zeros(1000)})
    whole = (cut / "model.pth").read_bytes()
    (cut / "model.pth").write_bytes(whole[: len(whole) // 2])
    out = str(tmp_path / "speech.wav")
    for folder, says in ((evil, "refused"), (cut, "cut short")):
        result = run("speak", "--out", out, TEXT, DEFAULT_MODEL=str(folder))
        assert result.returncode == 2
        assert f"{folder}/model.pth" in result.stderr
        assert says in result.stderr
        assert "Traceback" not in result.stderr
    assert not ran.exists()
    assert not Path(out).exists()


def test_serve_exits_with_code_2_when_the_model_can_never_be_loaded() -> None:
    result = run("serve", "--port", "0", DEFAULT_MODEL="xtts-v2", MODELS_DIR="/nonexistent")
    assert result.returncode == 2
    assert "COQUI_TOS_AGREED=1" in result.stderr


def test_serve_names_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("serve", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 2
    assert "API_PORT" in result.stderr


def test_serve_is_alive_within_two_seconds_and_leaves_nothing_behind() -> None:
    started = time.monotonic()
    server = subprocess.Popen(
        [sys.executable, "-m", "app", "serve", "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1].removeprefix("http://")
        host, _, port = address.rpartition(":")
        while True:
            try:
                with socket.create_connection((host, int(port)), timeout=1) as client:
                    client.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                    answer = client.recv(100)
                break
            except OSError:
                time.sleep(0.02)
        alive_after_s = time.monotonic() - started
        assert answer.startswith(b"HTTP/1.1 200")
        # 2 s is the promise on an idle machine; a busy one gets twice that before this fails.
        assert alive_after_s < (2.0 if os.getloadavg()[0] < 1.5 else 4.0)
        time.sleep(0.3)  # the worker has been started by now
        family = [server.pid, *(c.pid for c in psutil.Process(server.pid).children(recursive=True))]
        assert len(family) > 1
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        assert not [pid for pid in family if psutil.pid_exists(pid)]
    finally:
        server.kill()


def test_models_lists_the_built_in_bundle() -> None:
    result = run("models", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout.splitlines()[-1])[0]["name"] == "builtin"
