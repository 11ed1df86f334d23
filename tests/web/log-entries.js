/** Conversation logs and their entries, for the tests. */

import { ConversationLog } from "../../src/recado/web/conversation-log.js";
import { People } from "../../src/recado/web/people.js";

export const message = (seq, from = "bruno") => ({ seq, from, at: seq, id: `m${seq}`, body: `body ${seq}` });

export const summary = (fields) => ({
  id: "a",
  members: ["ana", "bruno"],
  created_at: 0,
  last_seq: 0,
  last_event: null,
  read_up_to: 0,
  unread_count: 0,
  active_at: 0,
  online: [],
  ...fields,
});

/** Whom `me` sees, of whom some have names. */
export function people(me, names = {}) {
  const known = new People();
  known.me = me;
  known.learn(names);
  return known;
}

/** Ana's log of a conversation, after these events. */
export function logWith(...events) {
  const log = new ConversationLog(summary(), "ana");
  for (const event of events) log.receive(event);
  return log;
}
