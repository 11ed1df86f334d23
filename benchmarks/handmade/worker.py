"""The article's system by hand, its worker: it takes jobs from SQS, loads the message and tells Mosquitto of it.

Each message goes to the conversation's topic at QoS 1, and the job is deleted once Mosquitto has acknowledged.
"""

import json
import os
import signal
from typing import Any

import boto3
import psycopg
from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion

QUEUE_URL = os.environ["QUEUE_URL"]
MESSAGE = "SELECT sender, at, id, body FROM messages WHERE conversation = %s AND seq = %s"


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    sqs: Any = boto3.client("sqs", endpoint_url=os.environ["SQS_URL"])
    db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    broker = Client(CallbackAPIVersion.VERSION2)
    broker.username_pw_set(os.environ["BROKER_USER"], os.environ["BROKER_PASSWORD"])
    broker.max_inflight_messages_set(100)
    broker.connect("127.0.0.1", int(os.environ["BROKER_PORT"]))
    broker.loop_start()
    print("ready", flush=True)
    while True:
        answer = sqs.receive_message(QueueUrl=QUEUE_URL, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        received = answer.get("Messages", [])
        published = [publish(db, broker, json.loads(each["Body"])) for each in received]
        for each in published:
            each.wait_for_publish()
        if received:
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(received)]
            sqs.delete_message_batch(QueueUrl=QUEUE_URL, Entries=entries)


def publish(db: psycopg.Connection, broker: Client, job: dict[str, Any]) -> MQTTMessageInfo:
    conversation, seq = job["conversation"], job["seq"]
    row = db.execute(MESSAGE, (conversation, seq)).fetchone()
    assert row is not None
    event = {"seq": seq, "from": row[0], "at": row[1], "id": row[2], "body": row[3]}
    return broker.publish(f"c/{conversation}", json.dumps(event), qos=1)


if __name__ == "__main__":
    main()
