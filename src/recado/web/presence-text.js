// @ts-check
/** What the page says about who is there. It says nothing while nobody tells the page: that would be old news. */

import { lastSeen, othersIn } from "./format.js";
import { TEXTS } from "./texts.js";

/** @import {ConversationClient} from "./conversation-client.js" */
/** @import {ConversationLog} from "./conversation-log.js" */

/**
 * @param {ConversationClient} client
 * @param {ConversationLog} log
 */
function isKnown(client, log) {
  return log.presence.isShown && !log.removed && client.hasSignals;
}

/**
 * Whether the other one of a conversation of two is there.
 *
 * @param {ConversationClient} client
 * @param {ConversationLog} log
 */
export function otherIsOnline(client, log) {
  return isKnown(client, log) && othersIn(log.summary, client.me).length === 1 && log.online().length === 1;
}

/**
 * Empty where nothing is known, or nobody else is there.
 *
 * @param {ConversationClient} client
 * @param {ConversationLog} log
 */
export function presenceText(client, log) {
  if (!isKnown(client, log)) return "";
  const online = log.online().length;
  const others = othersIn(log.summary, client.me);
  if (others.length > 1) return online > 0 ? TEXTS.onlineCount(online) : "";
  if (online > 0) return TEXTS.online;
  const seen = log.presence.lastSeen.get(others[0] ?? "");
  return seen === undefined ? "" : lastSeen(seen);
}
