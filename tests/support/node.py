"""A Connection made by a JavaScript client: a Node.js process that obeys JSON lines (tests/node/driver.js)."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from tests.support.connection import (
    ANSWER_TIMEOUT_S,
    Delivery,
    Login,
    Session,
    Transport,
    Version,
    Will,
    new_client_id,
)

SCRIPTS = Path(__file__).parents[1] / "node"
Library = Literal["mqttjs", "pahojs"]


class NodeClient:
    def __init__(
        self,
        library: Library,
        login: Login,
        version: Version,
        transport: Transport,
        will: Will | None = None,
        session: Session | None = None,
    ) -> None:
        self.received: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[int | str] = queue.SimpleQueue()
        self._connect = {
            "do": "connect",
            "url": _url(login, transport),
            "version": 5 if version == "5" else 4,
            "clientId": session.client_id if session else new_client_id(login.user),
            **({"username": login.user, "password": login.token} if login.user else {}),
            **({"trusted": login.trusted} if transport in ("tls", "wss") else {}),
            **({"will": asdict(will)} if will else {}),
            **({"expiryInterval": session.expiry_interval_s} if session else {}),
        }
        self._process = subprocess.Popen(
            ["node", str(SCRIPTS / f"{library}.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def connect(self) -> int:
        return self._ask(self._connect)

    def subscribe(self, topic_filter: str, qos: int = 1, after: Iterable[str] = ()) -> int:
        return self._ask({"do": "subscribe", "filter": topic_filter, "qos": qos, "after": list(after)})

    def publish(self, topic_name: str, payload: str, qos: int = 1, retain: bool = False) -> int:
        command = {"do": "publish", "topic": topic_name, "payload": payload, "qos": qos, "retain": retain}
        return self._ask(command)

    def kill(self) -> None:
        """SIGKILL: its connection ends without a word."""
        self._process.kill()
        self._process.wait(ANSWER_TIMEOUT_S)
        self._reader.join()

    def close(self) -> None:
        """Closing its input ends the process, which closes its connection."""
        assert self._process.stdin is not None
        self._process.stdin.close()  # a second time does nothing, and neither does the wait for who was killed
        try:
            self._process.wait(ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reader.join()

    def _ask(self, command: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._answers.get(timeout=ANSWER_TIMEOUT_S)
        assert isinstance(answer, int), f"{command['do']}: {answer}"
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "answer" in said:
                self._answers.put(said["answer"])
            else:
                self.received.put(Delivery(said["topic"], said["qos"], said["payload"], said["retain"]))
        self._answers.put("the client's process ended")


def _url(login: Login, transport: Transport) -> str:
    urls = {
        "tcp": f"mqtt://127.0.0.1:{login.tcp_port}",
        "tls": f"mqtts://127.0.0.1:{login.tls_port}",
        "websocket": login.ws_url,
        "wss": login.wss_url,
    }
    return urls[transport]
