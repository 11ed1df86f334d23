"""An SQS of this machine: moto's server, which speaks the protocol of Amazon SQS and keeps everything in memory.

What is in it is lost when it ends, queues too: worse than SQS ever is, and what Recado has to outlive. It takes any
credentials.
"""

import json
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from deploy.services.child_process import ChildProcess, ServiceFailed
from deploy.services.ports import answers, free_port

REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "stand-in", "AWS_SECRET_ACCESS_KEY": "stand-in"}
"""For the environment of who uses it."""
_ACCOUNT = "123456789012"
_TIMEOUT_S = 30.0
_SCOPE = f"AWS4-HMAC-SHA256 Credential=stand-in/20260101/{REGION}/sqs/aws4_request, SignedHeaders=host, Signature=0"


class Sqs(ChildProcess):
    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        super().__init__("moto's server", command, folder / "sqs.log", lambda: answers(self.port, "/moto-api/"))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, queue: str) -> str:
        """What Recado is given as --queue."""
        return f"sqs://{queue}?region={REGION}&endpoint={self.endpoint}"

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
            raise ServiceFailed(f"{action}: {text.decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(text) if text else {}
        return answer
