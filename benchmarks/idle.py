"""What an idle connection costs: the server's memory before and with some thousand connections that say nothing.

    .venv/bin/python benchmarks/idle.py [--ws] [--connections 9000] [--theirs]

Half of them have a subscription each, as mqttload makes them. The memory is the server's resident set (`/proc`), after
its own warm-up; the clients are another process. `--theirs` measures Mosquitto in the same way.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SETTLE_S = 3


def build_load() -> str:
    binary = Path(tempfile.gettempdir()) / f"mqttload-{os.getuid()}"
    source = HERE / "mqttload.c"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", binary, source], check=True)
    return str(binary)


def start(theirs: bool, tcp_port: int, ws_port: int) -> subprocess.Popen[bytes]:
    if theirs:
        command = ["mosquitto", "-c", str(HERE / "mosquitto.conf")]
    else:
        recado = [str(Path(sys.executable).with_name("recado")), "broker", "--allow-anonymous"]
        ports = ["--mqtt-port", str(tcp_port), "--ws-port", str(ws_port), "--http-port", "off"]
        command = [*recado, *ports, "--database", "off"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"idle: nothing listens on port {port}")


def is_socket(fd: Path) -> bool:
    try:
        return str(fd.readlink()).startswith("socket:")
    except OSError:
        return False


def resident_bytes(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ws", action="store_true", help="over WebSocket instead of TCP")
    parser.add_argument("--connections", type=int, default=9000)
    parser.add_argument("--theirs", action="store_true", help="measure Mosquitto")
    asked = parser.parse_args()
    tcp_port, ws_port = 21884, 21885
    server = start(asked.theirs, tcp_port, ws_port)
    try:
        wait_for(tcp_port)
        port = ws_port if asked.ws else tcp_port
        load = [build_load(), "-p", str(port), "-m", "1", *(["-w", "/mqtt"] if asked.ws else [])]
        subprocess.run([*load, "-n", "50", "-d", "1"], check=True, stdout=subprocess.DEVNULL)
        time.sleep(SETTLE_S)
        before = resident_bytes(server.pid)
        idle = subprocess.Popen(
            [*load, "-n", str(asked.connections // 2), "-k", "0", "-d", "600"], stdout=subprocess.DEVNULL
        )
        established = 0
        while established < asked.connections and idle.poll() is None:
            time.sleep(1)
            established = len([fd for fd in Path(f"/proc/{idle.pid}/fd").iterdir() if is_socket(fd)])
        time.sleep(SETTLE_S)
        grown = resident_bytes(server.pid) - before
        idle.kill()
        idle.wait()
        name = "Mosquitto" if asked.theirs else "Recado"
        transport = "WebSocket" if asked.ws else "TCP"
        print(f"{name}, {transport}: {established} idle connections, {grown / established / 1024:.2f} KiB each")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


if __name__ == "__main__":
    main()
