// @ts-check
/**
 * What edits, deletes and erasures do to the entries of a log. Pure.
 *
 * A change may come before the message that it is about: history is loaded backwards. So a change is applied to what is
 * there when it arrives, and again to each older page. That is harmless: an edit never goes back to an older body, and
 * a deleted entry never comes back to life.
 */

/** @import {ChatEvent} from "./http-api.js" */

/** Whether an entry is a message that can be read. @param {ChatEvent} entry */
export const isMessage = ({ type }) => type === undefined;

/**
 * Whether an entry stands where a message was: an event about a deletion has a target, this has none.
 *
 * @param {ChatEvent} entry
 */
export const isTombstone = ({ type, target }) => type === "deleted" && target === undefined;

/**
 * Applies a change to the entries it is about; any other event changes nothing.
 *
 * @param {ChatEvent[]} entries changed in place, ascending
 * @param {ChatEvent} change
 */
export function applyChange(entries, change) {
  const { type, target, user } = change;
  if (type === "edited") replaceWhere(entries, ({ seq }) => seq === target, (entry) => edited(entry, change));
  else if (type === "deleted") replaceWhere(entries, isAbout([target]), withoutBody);
  else if (type === "user_erased") {
    const theirs = entries.filter((entry) => isMessage(entry) && entry.from === user).map(({ seq }) => seq);
    replaceWhere(entries, isAbout(theirs), withoutBody);
  }
}

/**
 * A message, and every event that carries one of its bodies.
 *
 * @param {Array<number | undefined>} targets
 * @returns {(entry: ChatEvent) => boolean}
 */
function isAbout(targets) {
  const seqs = new Set(targets);
  return ({ seq, type, target }) => seqs.has(seq) || (type === "edited" && seqs.has(target));
}

/**
 * @param {ChatEvent} message
 * @param {ChatEvent} change
 * @returns {ChatEvent}
 */
function edited(message, { body, at }) {
  if (!isMessage(message) || body === undefined || at < (message.edited_at ?? 0)) return message;
  return { ...message, body, edited_at: at };
}

/**
 * @param {ChatEvent} entry
 * @returns {ChatEvent}
 */
function withoutBody(entry) {
  const { body: _body, edited_at: _editedAt, ...rest } = entry;
  return isMessage(entry) ? { ...rest, type: "deleted" } : rest;
}

/**
 * @param {ChatEvent[]} entries
 * @param {(entry: ChatEvent) => boolean} chosen
 * @param {(entry: ChatEvent) => ChatEvent} change
 */
function replaceWhere(entries, chosen, change) {
  entries.forEach((entry, i) => {
    if (chosen(entry)) entries[i] = change(entry);
  });
}
