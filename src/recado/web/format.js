// @ts-check
/** Times and texts as people read them. Pure, but for the clock where `now` is not given. */

import { isTombstone } from "./log-changes.js";
import { TEXTS } from "./texts.js";

/** @import {ChatEvent, Conversation} from "./http-api.js" */
/** @import {People} from "./people.js" */

const DAY_MS = 86_400_000;
const NAMES_SHOWN = 4;
const SHORT_NAME_LETTERS_MAX = 12; // of a line of the list it leaves more than half to the message
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

/** One letter or two for a name. @param {string} name */
export function initials(name) {
  const words = name.split(/[\s_-]+/).filter(Boolean);
  const letters = words.length > 1 ? words.slice(0, 2) : [name];
  return letters.map((word) => String.fromCodePoint(word.codePointAt(0) ?? 0x3f)).join("").toUpperCase();
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

/** @param {Conversation} conversation @param {People} people */
export function titleOf(conversation, people) {
  if (conversation.subject) return conversation.subject;
  return memberLine(othersIn(conversation, people.me), people) || conversation.id;
}

/** The names, "You" first. @param {string[]} members @param {People} people */
export function memberLine(members, people) {
  const ordered = [...members].sort((a, b) => Number(b === people.me) - Number(a === people.me));
  const names = ordered.map((member) => people.called(member));
  return TEXTS.members(names.slice(0, NAMES_SHOWN), Math.max(0, names.length - NAMES_SHOWN));
}

/**
 * The line for an event that is no message; empty for a type that this page does not know.
 *
 * @param {ChatEvent} event
 * @param {People} people
 */
export function systemText(event, people) {
  const by = event.from === null ? null : people.called(event.from);
  const user = people.called(event.user ?? "");
  if (event.type === "member_added") return TEXTS.memberAdded(by, user);
  if (event.type === "member_removed") return TEXTS.memberRemoved(by, user);
  if (event.type === "user_erased") return TEXTS.userErased(user);
  if (event.type !== "conversation_changed") return "";
  return event.subject ? TEXTS.subjectChanged(event.subject) : TEXTS.detailsChanged;
}

/**
 * The line of the list for what came last. Between two, what is not the user's own is the other's: it goes without a
 * name.
 *
 * @param {Conversation} conversation
 * @param {People} people
 */
export function snippetOf(conversation, people) {
  const event = conversation.last_event;
  if (event === null) return TEXTS.noMessages;
  const others = othersIn(conversation, people.me);
  const isOnlyOther = others.length === 1 && others[0] === event.from;
  const name = event.from === null ? people.called(null) : shortName(people.called(event.from));
  if (event.type === "deleted") return isTombstone(event) ? TEXTS.deleted : TEXTS.deletedOne(name);
  if (event.type === "edited") return TEXTS.editedOne(name, event.body);
  if (event.type !== undefined) return systemText(event, people);
  return isOnlyOther ? (event.body ?? "") : TEXTS.snippet(name, event.body ?? "");
}

/** The first word of a name, or as much of it as there is room for. @param {string} name */
export function shortName(name) {
  const letters = Array.from(name.trim().split(/\s+/)[0] ?? "");
  if (letters.length <= SHORT_NAME_LETTERS_MAX) return letters.join("");
  return `${letters.slice(0, SHORT_NAME_LETTERS_MAX - 1).join("")}…`;
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
