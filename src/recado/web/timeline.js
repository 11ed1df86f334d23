// @ts-check
/**
 * A conversation as rows to draw: days, system lines, the "new" line, and messages grouped by sender. Pure.
 *
 * A message's key is its sender and id, so the row that was drawn while sending is the one that the event confirms.
 */

import { dayNumber, systemText } from "./format.js";
import { isTombstone } from "./log-changes.js";
import { TEXTS } from "./texts.js";

/** @import {ChatEvent} from "./http-api.js" */
/** @import {OutboxMessage, OutboxStatus} from "./outbox.js" */
/** @import {People} from "./people.js" */
/** @import {ReceiptState} from "./receipts.js" */

const GROUP_MS_MAX = 5 * 60_000;

/**
 * @typedef {{kind: "day", key: string, at: number}} DayRow
 * @typedef {{kind: "unread", key: string}} UnreadRow
 * @typedef {{kind: "system", key: string, text: string, at: number}} SystemRow
 * @typedef {object} MessageRow
 * @property {"message"} kind
 * @property {string} key
 * @property {string} id
 * @property {number} [seq] absent until the server's event is here
 * @property {string | null} from
 * @property {string} name the sender's display name, or its id
 * @property {string} body
 * @property {number} at
 * @property {boolean} own
 * @property {OutboxStatus} status
 * @property {ReceiptState} [receipt] of an own message that is stored, where receipts are told
 * @property {string[]} [seenBy] the names of the others who have read it, if only some have
 * @property {number} [editedAt]
 * @property {boolean} [deleted] only its place is left
 * @property {number} [reasonCode]
 * @property {string} [reason]
 * @property {boolean} first of its group
 * @property {boolean} last of its group
 * @typedef {DayRow | UnreadRow | SystemRow | MessageRow} Row
 */

/**
 * @param {object} conversation
 * @param {ChatEvent[]} conversation.events
 * @param {OutboxMessage[]} conversation.outbox
 * @param {People} conversation.people
 * @param {number | null} conversation.unreadAfter the seq after which the "new" line stands
 * @param {(seq: number) => {receipt?: ReceiptState, seenBy?: string[]}} [conversation.receiptOf] of an own message
 * @returns {Row[]}
 */
export function timelineRows({ events, outbox, people, unreadAfter, receiptOf = () => ({}) }) {
  /** @type {Row[]} */
  const rows = [];
  let day = NaN;
  let unreadShown = unreadAfter === null;
  for (const row of [
    ...events.map((event) => eventRow(event, people, receiptOf)),
    ...outbox.map((message) => outboxRow(message, people)),
  ]) {
    if (row === null) continue;
    if (dayNumber(row.at) !== day) rows.push({ kind: "day", key: `day/${dayNumber(row.at)}/${row.key}`, at: row.at });
    day = dayNumber(row.at);
    if (!unreadShown && row.kind === "message" && !row.own && (row.seq ?? 0) > (unreadAfter ?? 0)) {
      rows.push({ kind: "unread", key: "unread" });
      unreadShown = true;
    }
    rows.push(row);
  }
  markGroups(rows);
  return rows;
}

/**
 * @param {ChatEvent} event
 * @param {People} people
 * @param {(seq: number) => {receipt?: ReceiptState, seenBy?: string[]}} receiptOf
 * @returns {SystemRow | MessageRow | null}
 */
function eventRow(event, people, receiptOf) {
  const { seq, at, from, type, id = `seq-${seq}`, body = "", edited_at: editedAt } = event;
  const deleted = isTombstone(event);
  if (type !== undefined && !deleted) {
    const text = systemText(event, people);
    return text ? { kind: "system", key: `system/${seq}`, text, at } : null;
  }
  const key = `message/${from ?? ""}/${id}`;
  const own = from === people.me;
  const name = people.called(from);
  /** @type {MessageRow} */
  const row = { kind: "message", key, id, seq, from, name, body, at, own, status: "sent", first: true, last: true };
  if (deleted) return { ...row, deleted };
  const { receipt, seenBy } = own ? receiptOf(seq) : {};
  return { ...row, editedAt, receipt, seenBy: seenBy?.map((user) => people.nameOf(user)) };
}

/**
 * @param {OutboxMessage} message
 * @param {People} people
 * @returns {MessageRow}
 */
function outboxRow({ id, body, at, status, reasonCode, reason }, { me }) {
  const key = `message/${me}/${id}`;
  return {
    kind: "message",
    key,
    id,
    from: me,
    name: TEXTS.you,
    body,
    at,
    own: true,
    status,
    reasonCode,
    reason,
    first: true,
    last: true,
  };
}

/** @param {Row[]} rows */
function markGroups(rows) {
  rows.forEach((row, i) => {
    const before = rows[i - 1];
    if (row.kind !== "message" || before?.kind !== "message") return;
    const together = before.from === row.from && Math.abs(row.at - before.at) < GROUP_MS_MAX;
    row.first = before.last = !together;
  });
}
