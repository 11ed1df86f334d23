"""The article's system by hand, its API: FastAPI and psycopg save the message, boto3 puts a job on SQS.

What a good engineer writes in an afternoon, with what Recado does for the same request: the token is checked, so is the
membership, inside the transaction; the message gets the next number of its conversation; a retry of an id returns the
first one. What it does not do: if the process dies between the commit and SQS, nobody is told of the message.
"""

import json
import os
import time
from typing import Annotated, Any

import boto3
import jwt
from fastapi import FastAPI, Header, HTTPException, Response
from psycopg import Connection
from psycopg_pool import ConnectionPool
from pydantic import BaseModel

SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (id text PRIMARY KEY, last_seq bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS members (conversation text, "user" text, PRIMARY KEY (conversation, "user"));
CREATE TABLE IF NOT EXISTS messages (
    conversation text, seq bigint, sender text, id text, body text, at bigint,
    PRIMARY KEY (conversation, seq), UNIQUE (conversation, sender, id)
);
"""
SECRET = os.environ["SECRET"]
QUEUE_URL = os.environ["QUEUE_URL"]
# FastAPI runs plain functions on 40 threads; more connections than that are of no use.
pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=40, open=True)
sqs: Any = boto3.client("sqs", endpoint_url=os.environ["SQS_URL"])
with pool.connection() as created:
    created.execute("SELECT pg_advisory_xact_lock(1)")  # several processes start at once
    created.execute(SCHEMA)
app = FastAPI()


class NewConversation(BaseModel):
    members: list[str]


class NewMessage(BaseModel):
    id: str
    body: str


@app.put("/conversations/{conversation}", status_code=201)
def put_conversation(conversation: str, new: NewConversation) -> None:
    with pool.connection() as db:
        db.execute("INSERT INTO conversations (id) VALUES (%s)", (conversation,))
        for user in new.members:
            db.execute("INSERT INTO members VALUES (%s, %s)", (conversation, user))


@app.post("/conversations/{conversation}/messages", status_code=201)
def send_message(
    conversation: str, new: NewMessage, response: Response, authorization: Annotated[str, Header()]
) -> dict[str, Any]:
    user = user_of(authorization)
    with pool.connection() as db:
        row = db.execute(
            "UPDATE conversations SET last_seq = last_seq + 1 WHERE id = %s "
            'AND EXISTS (SELECT 1 FROM members WHERE conversation = %s AND "user" = %s) RETURNING last_seq',
            (conversation, conversation, user),
        ).fetchone()
        if row is None:
            raise HTTPException(404)
        message = {"seq": row[0], "from": user, "at": int(time.time() * 1000), "id": new.id, "body": new.body}
        inserted = db.execute(
            "INSERT INTO messages VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (conversation, sender, id) DO NOTHING",
            (conversation, message["seq"], user, new.id, new.body, message["at"]),
        )
        if not inserted.rowcount:
            db.rollback()
            response.status_code = 200
            return first_sent(db, conversation, user, new.id)
    job = json.dumps({"conversation": conversation, "seq": message["seq"]})
    sqs.send_message(QueueUrl=QUEUE_URL, MessageBody=job)
    return message


def user_of(authorization: str) -> str:
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    except jwt.PyJWTError:
        raise HTTPException(401) from None
    user: str = claims["sub"]
    return user


def first_sent(db: Connection, conversation: str, user: str, message_id: str) -> dict[str, Any]:
    query = "SELECT seq, at, body FROM messages WHERE conversation = %s AND sender = %s AND id = %s"
    row = db.execute(query, (conversation, user, message_id)).fetchone()
    assert row is not None
    return {"seq": row[0], "from": user, "at": row[1], "id": message_id, "body": row[2]}
