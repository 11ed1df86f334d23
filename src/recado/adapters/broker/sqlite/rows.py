"""How sessions and publications lie in rows. Properties, wills and identifiers are MessagePack; null is none."""

from typing import Any

import msgspec

from recado.broker.publication import Publication
from recado.broker.storage import Delivery, SaveSession
from recado.mqtt.packets import SubscriptionRequest, Will
from recado.mqtt.properties import EMPTY_PROPERTIES, Properties, PropertyId

Row = tuple[Any, ...]

_encode = msgspec.msgpack.Encoder().encode
_decode_properties = msgspec.msgpack.Decoder(dict[PropertyId, Any]).decode
_decode_will = msgspec.msgpack.Decoder(tuple[str, bytes, int, bool, bytes | None]).decode
_decode_identifiers = msgspec.msgpack.Decoder(tuple[int, ...]).decode


def row_of(publication: Publication) -> Row:
    return (
        publication.topic_name,
        publication.payload,
        publication.qos,
        publication.position,
        publication.retain,
        _properties_bytes(publication.properties),
        publication.expires_at_ms,
    )


def publication_of(row: Row) -> Publication:
    topic_name, payload, qos, position, retain, properties, expires_at_ms = row
    return Publication(
        topic_name,
        payload,
        qos,
        position,
        retain=bool(retain),
        properties=_properties_of(properties),
        expires_at_ms=expires_at_ms,
    )


def identifiers_bytes(identifiers: tuple[int, ...]) -> bytes | None:
    return _encode(identifiers) if identifiers else None


def delivery_of(packet_id: int, row: Row) -> Delivery:
    """From (position, qos, retain, identifiers) and the publication's row."""
    position, qos, retain, identifiers = row[:4]
    return Delivery(
        packet_id,
        None if position is None else publication_of(row[4:]),
        qos,
        bool(retain),
        _decode_identifiers(identifiers) if identifiers else (),
    )


def will_bytes(will: Will | None) -> bytes | None:
    if will is None:
        return None
    return _encode((will.topic_name, will.payload, will.qos, will.retain, _properties_bytes(will.properties)))


def session_of(row: Row) -> SaveSession:
    key, user, client_id, expiry_interval, ended_at_ms, will = row
    return SaveSession(key, user, client_id, expiry_interval, ended_at_ms, None if will is None else _will_of(will))


def subscription_of(row: Row) -> SubscriptionRequest:
    topic_filter, qos, no_local, retain_as_published, retain_handling = row
    return SubscriptionRequest(topic_filter, qos, bool(no_local), bool(retain_as_published), retain_handling)


def _will_of(raw: bytes) -> Will:
    topic_name, payload, qos, retain, properties = _decode_will(raw)
    return Will(topic_name, payload, qos, retain, _properties_of(properties))


def _properties_bytes(properties: Properties) -> bytes | None:
    return _encode(dict(properties)) if properties else None


def _properties_of(raw: bytes | None) -> Properties:
    if raw is None:
        return EMPTY_PROPERTIES
    properties = _decode_properties(raw)
    pairs = properties.get(PropertyId.USER_PROPERTY)
    if pairs is not None:
        properties[PropertyId.USER_PROPERTY] = [(name, value) for name, value in pairs]
    return properties
