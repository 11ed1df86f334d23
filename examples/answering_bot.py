"""A bot that takes part in conversations: it answers every question, once, whatever happens to it or to the server.

With `recado serve` running (see host_app.py) and RECADO_API_KEY in the environment:

    curl -X PUT -H "Authorization: Bearer $RECADO_API_KEY" \
      -d '{"members": ["ana", "helper"]}' http://127.0.0.1:8000/v1/conversations/order-4712
    python examples/answering_bot.py

Then write as ana: "Is it in stock?"
"""

import asyncio
import json
import os
from urllib import request as http

import recado.client

RECADO = os.environ.get("RECADO_URL", "http://127.0.0.1:8000")
MQTT = os.environ.get("RECADO_MQTT_URL", "mqtt://127.0.0.1:1883")
API_KEY = os.environ["RECADO_API_KEY"]
BOT = "helper"


def mint_token() -> str:
    """A token for the bot, which is a user like any other; Recado asks for the next one before this one ends."""
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    call = http.Request(f"{RECADO}/v1/tokens", json.dumps({"user": BOT}).encode(), headers)  # noqa: S310
    with http.urlopen(call, timeout=10) as answer:  # noqa: S310
        token: str = json.load(answer)["token"]
        return token


async def token() -> str:
    return await asyncio.to_thread(mint_token)


async def answer(client: recado.client.Client, conversation: str, event: recado.client.Event) -> None:
    if event.is_message and event.sender != BOT and (event.body or "").rstrip().endswith("?"):
        await client.typing(conversation)
        # The id says what it answers: a question that is read twice is answered once.
        await client.send(conversation, f"You ask: {event.body} I will find out.", id=f"answer-{event.seq}")


async def main() -> None:
    # The session is kept by the server while the bot is away: it reads on where it was.
    async with recado.client.connect(MQTT, token, session="answering-bot") as client:
        print(f"{client.user} is listening", flush=True)
        async for conversation, event in client.events_of_all():
            try:
                await answer(client, conversation, event)
            except recado.client.NotAMember:
                pass  # removed from it meanwhile
            except recado.client.Refused as refused:
                print(f"no answer in {conversation}: {refused}")


if __name__ == "__main__":
    asyncio.run(main())
