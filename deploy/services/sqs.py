"""An SQS of this machine: moto's server, which speaks the protocol of Amazon SQS and keeps everything in memory.

What is in it is lost when it ends, queues too: worse than SQS ever is, and what Recado has to outlive. It takes any
credentials.
"""

import json
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from deploy.services.ports import free_port

REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "stand-in", "AWS_SECRET_ACCESS_KEY": "stand-in"}
"""For the environment of who uses it."""
_ACCOUNT = "123456789012"
_TIMEOUT_S = 30.0
_SCOPE = f"AWS4-HMAC-SHA256 Credential=stand-in/20260101/{REGION}/sqs/aws4_request, SignedHeaders=host, Signature=0"


class SqsFailed(Exception):
    """The server could not be started or asked; the text has what it printed."""


class Sqs:
    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, queue: str) -> str:
        """What Recado is given as --queue."""
        return f"sqs://{queue}?region={REGION}&endpoint={self.endpoint}"

    @property
    def log(self) -> str:
        path = self._folder / "sqs.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Return once it answers."""
        assert self._process is None, "already started"
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "sqs.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                process_group=0,  # Ctrl-C is for who started it, who stops it in its turn
            )
        deadline = time.monotonic() + _TIMEOUT_S
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise SqsFailed(f"moto's server did not start:\n{self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        process = self._running()
        process.terminate()
        process.wait(_TIMEOUT_S)
        self._process = None

    def kill(self) -> None:
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        """Start it again where it was stopped or killed: on the same port, and empty."""
        self.start()

    def close(self) -> None:
        """End it whatever state it is in."""
        if self._process is not None:
            self.kill()

    def create_queue(self, name: str, visibility_s: int = 30, redrive: tuple[str, int] | None = None) -> str:
        """Make an empty queue; returns its URL for Recado. `redrive` is the queue that gets what was received so many
        times without being deleted; it is made, too."""
        attributes = {"VisibilityTimeout": str(visibility_s)}
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        if redrive is not None:
            self.create_queue(redrive[0])
            target = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{_ACCOUNT}:{redrive[0]}"}
            attributes["RedrivePolicy"] = json.dumps({**target, "maxReceiveCount": redrive[1]})
        self._call("CreateQueue", QueueName=name, Attributes=attributes)
        return self.url(name)

    def send(self, queue: str, body: str) -> None:
        self._call("SendMessage", QueueUrl=self.queue_url(queue), MessageBody=body)

    def purge(self, queue: str) -> None:
        """Lose everything that is in it."""
        self._call("PurgeQueue", QueueUrl=self.queue_url(queue))

    def receive(self, queue: str, most: int = 10, wait_s: int = 0, visibility_s: int = 30) -> list[dict[str, Any]]:
        """As any consumer: what it gets is hidden from others for so long, and stays in the queue."""
        answer = self._call(
            "ReceiveMessage",
            QueueUrl=self.queue_url(queue),
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=visibility_s,
            AttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def delete(self, queue: str, message: dict[str, Any]) -> None:
        self._call("DeleteMessage", QueueUrl=self.queue_url(queue), ReceiptHandle=message["ReceiptHandle"])

    def counts(self, queue: str) -> tuple[int, int]:
        """How many messages wait, and how many are hidden because somebody has received them."""
        asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._call("GetQueueAttributes", QueueUrl=self.queue_url(queue), AttributeNames=asked)
        waiting, hidden = (int(answer["Attributes"][name]) for name in asked)
        return waiting, hidden

    def queue_url(self, queue: str) -> str:
        """What SQS itself calls it."""
        return f"{self.endpoint}/{_ACCOUNT}/{queue}"

    def _call(self, action: str, **arguments: object) -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        try:
            connection.request("POST", "/", json.dumps(arguments), {**headers, "Authorization": _SCOPE})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise SqsFailed(f"{action}: {text.decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(text) if text else {}
        return answer

    def _is_ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/moto-api/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "SQS is not started"
        return self._process
