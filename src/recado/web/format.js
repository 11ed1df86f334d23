// @ts-check
/** Names, times and texts as people read them. Pure, but for the clock where `now` is not given. */

import { isTombstone } from "./log-changes.js";
import { TEXTS } from "./texts.js";

/** @import {ChatEvent, Conversation} from "./http-api.js" */

const DAY_MS = 86_400_000;
const NAMES_SHOWN = 4;
const LINK = /https?:\/\/[^\s<>"'`]+/g;
const TRAILING_PUNCTUATION = /[.,;:!?)\]}]+$/;

const language = globalThis.navigator?.languages?.find((tag) => tag.startsWith("en")) ?? "en-GB";
const CLOCK = new Intl.DateTimeFormat(language, { hour: "numeric", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat(language, { weekday: "long" });
const SHORT_WEEKDAY = new Intl.DateTimeFormat(language, { weekday: "short" });
const SHORT_DATE = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
const LONG_DATE = new Intl.DateTimeFormat(language, {
  weekday: "long",
  day: "numeric",
  month: "long",
  year: "numeric",
});
const FULL = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "short" });

/** @param {number} at */
export const clockTime = (at) => CLOCK.format(at);

/** @param {number} at */
export const fullTime = (at) => FULL.format(at);

/** A day as a number that grows by one at each local midnight. @param {number} at */
export function dayNumber(at) {
  const date = new Date(at);
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY_MS);
}

/** @param {number} at @param {number} [now] */
export function dayName(at, now = Date.now()) {
  const age = dayNumber(now) - dayNumber(at);
  if (age === 0) return TEXTS.today;
  if (age === 1) return TEXTS.yesterday;
  return age > 1 && age < 7 ? WEEKDAY.format(at) : LONG_DATE.format(at);
}

/** @param {number} at @param {number} [now] */
export function listTime(at, now = Date.now()) {
  const age = dayNumber(now) - dayNumber(at);
  if (age === 0) return clockTime(at);
  return age > 0 && age < 7 ? SHORT_WEEKDAY.format(at) : SHORT_DATE.format(at);
}

/** @param {number} at @param {number} [now] */
export function lastSeen(at, now = Date.now()) {
  const age = dayNumber(now) - dayNumber(at);
  if (age < 2) return TEXTS.lastSeenAt(age === 1 ? TEXTS.yesterday.toLowerCase() : "", clockTime(at));
  return TEXTS.lastSeenOn(age < 7 ? WEEKDAY.format(at) : SHORT_DATE.format(at));
}

/**
 * A user id as a name: plain lower-case words get their capitals, anything else stays as it is.
 *
 * @param {string} user
 */
export function displayName(user) {
  if (!/^[a-z]+([_-][a-z]+)*$/.test(user)) return user;
  return user
    .split(/[_-]/)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join(" ");
}

/** @param {string | null} user @param {string} me */
export function nameFor(user, me) {
  if (user === null) return TEXTS.host;
  return user === me ? TEXTS.you : displayName(user);
}

/** @param {string} user */
export function initials(user) {
  const words = user.split(/[_-]+/).filter(Boolean);
  const letters = words.length > 1 ? words.slice(0, 2).map((word) => word.charAt(0)) : [user.charAt(0)];
  return letters.join("").toUpperCase();
}

/** One of eight colours, always the same for a user. @param {string} user */
export function toneOf(user) {
  let hash = 7;
  for (const letter of user) hash = (hash * 31 + /** @type {number} */ (letter.codePointAt(0))) >>> 0;
  return (hash >>> 3) % 8;
}

/** @param {Conversation} conversation @param {string} me */
export function othersIn(conversation, me) {
  return conversation.members.filter((member) => member !== me);
}

/** @param {Conversation} conversation @param {string} me */
export function titleOf(conversation, me) {
  if (conversation.subject) return conversation.subject;
  return memberLine(othersIn(conversation, me), me) || conversation.id;
}

/** The names, "You" first. @param {string[]} members @param {string} me */
export function memberLine(members, me) {
  const ordered = [...members].sort((a, b) => Number(b === me) - Number(a === me));
  const names = ordered.map((member) => nameFor(member, me));
  return TEXTS.members(names.slice(0, NAMES_SHOWN), Math.max(0, names.length - NAMES_SHOWN));
}

/**
 * The line for an event that is no message; empty for a type that this page does not know.
 *
 * @param {ChatEvent} event
 * @param {string} me
 */
export function systemText(event, me) {
  const by = event.from === null ? null : nameFor(event.from, me);
  if (event.type === "member_added") return TEXTS.memberAdded(by, nameFor(event.user ?? "", me));
  if (event.type === "member_removed") return TEXTS.memberRemoved(by, nameFor(event.user ?? "", me));
  if (event.type === "user_erased") return TEXTS.userErased(nameFor(event.user ?? "", me));
  if (event.type !== "conversation_changed") return "";
  return event.subject ? TEXTS.subjectChanged(event.subject) : TEXTS.detailsChanged;
}

/** @param {ChatEvent | null} event @param {string} me */
export function snippetOf(event, me) {
  if (event === null) return TEXTS.noMessages;
  if (event.type === "deleted") return isTombstone(event) ? TEXTS.deleted : TEXTS.deletedOne(nameFor(event.from, me));
  if (event.type === "edited") return TEXTS.editedOne(nameFor(event.from, me), event.body);
  if (event.type !== undefined) return systemText(event, me);
  return TEXTS.snippet(nameFor(event.from, me), event.body ?? "");
}

/**
 * Cuts a text into plain pieces and links. Only http and https become links.
 *
 * @param {string} text
 * @returns {Array<{text: string, href?: string}>}
 */
export function linkPieces(text) {
  const pieces = [];
  let at = 0;
  for (const match of text.matchAll(LINK)) {
    const address = match[0].replace(TRAILING_PUNCTUATION, "");
    const href = safeHref(address);
    if (href === null) continue;
    if (match.index > at) pieces.push({ text: text.slice(at, match.index) });
    pieces.push({ text: address, href });
    at = match.index + address.length;
  }
  if (at < text.length) pieces.push({ text: text.slice(at) });
  return pieces;
}

/** @param {string} address */
function safeHref(address) {
  try {
    const url = new URL(address);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}
