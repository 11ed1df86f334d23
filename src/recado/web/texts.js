// @ts-check
/** Every text that the pages show, in one place. */

/** @import {ConnectionState} from "./link-keeper.js" */
/** @import {LinkKind} from "./link.js" */
/** @import {SignedOut} from "./http-api.js" */

/** @type {Record<ConnectionState, string>} */
const CONNECTION = {
  connecting: "Connecting…",
  online: "Connected",
  reconnecting: "Reconnecting… Your messages will be sent.",
  offline: "Offline. Your messages will be sent when you are back.",
};

/** @type {Partial<Record<LinkKind, string>>} what is said of a connection that is not the best one */
const LINKS = {
  websocket: "Connected by a WebSocket: MQTT does not get through.",
  "event-stream": "Connected by event stream: WebSockets are blocked here.",
  "long-poll": "Connected by polling: no signs of typing or presence.",
};

/** @type {Record<SignedOut["why"], string>} */
const SIGNED_OUT = {
  missing: "",
  expired: "Your token has expired. Paste a new one to go on.",
  refused: "The server did not accept this token. It may have expired.",
};

/** @type {Record<number, string>} what the user should know about a refusal, by MQTT reason code */
const REFUSALS = {
  0x87: "You are not in this conversation any more.",
  0x95: "The message is too long.",
  0x97: "It is over the server’s limit: try a shorter message.",
  0x99: "The server cannot take this message.",
};

/** @type {Record<number, string>} why a message was not edited or deleted, by HTTP status */
const CHANGE_REFUSALS = {
  0: "The server cannot be reached now. Try again in a moment.",
  401: "You are signed out.",
  403: "It is too late to change this message.",
  404: "This message is not here any more.",
  409: "This message was deleted in the meantime.",
  413: "The message is too long.",
  429: "That was too fast. Try again in a moment.",
  503: "The server is busy. Try again in a moment.",
};

export const TEXTS = {
  product: "Recado",
  connection: CONNECTION,
  links: LINKS,
  signedOut: SIGNED_OUT,
  demoLinkRefused: "This demo link does not work any more. Start the demo again, or paste a token.",
  signOut: "Sign out",
  you: "You",
  host: "The shop",
  conversations: "Conversations",
  emptyList: "No conversations yet",
  emptyListHint: "When someone writes to you about an order, it shows up here.",
  noConversation: "Pick a conversation",
  noConversationHint: "Messages arrive here the moment they are sent.",
  notFound: "This conversation is not here",
  notFoundHint: "It does not exist, or you are not one of its members.",
  loadFailed: "The messages could not be loaded.",
  tryAgain: "Try again",
  loadingOlder: "Loading earlier messages…",
  beginning: "This is the beginning of the conversation.",
  noMessages: "No messages yet. Say hello.",
  erasedNotice: "This conversation was deleted.",
  removedNotice: "You are no longer in this conversation.",
  unreadHere: "New",
  newMessages: "New messages",
  toTheEnd: "Go to the newest message",
  write: "Write a message",
  edited: "edited",
  editedAt: (/** @type {string} */ time) => `Edited ${time}`,
  deleted: "Message deleted",
  messageMenu: "Edit or delete this message",
  edit: "Edit",
  delete: "Delete",
  cancel: "Cancel",
  deleteQuestion: "Delete this message?",
  deleteHint: "It disappears for everybody in this conversation, and nobody can bring it back.",
  editing: "Editing your message",
  save: "Save",
  cancelEditing: "Cancel editing",
  changeRefusal: (/** @type {number} */ status, /** @type {string} */ message) =>
    CHANGE_REFUSALS[status] ?? `The server refused it: ${message}.`,
  notify: "Notify me",
  notifyHint: "Hear of new messages while this page is closed.",
  notifyOn: "Notifications are on.",
  notifyStop: "Switch off",
  notifyDenied: "Notifications are blocked in your browser’s settings.",
  notifyFailed: "That did not work. Try again in a moment.",
  mute: "Mute this conversation",
  unmute: "Unmute this conversation",
  muted: "muted",
  send: "Send",
  retry: "Try again",
  discard: "Discard",
  notSent: "Not sent",
  status: { sending: "Sending", sent: "Sent", failed: "Not sent" },
  receipt: { stored: "Sent", delivered: "Delivered", read: "Read" },
  /** @param {string[]} names */
  readBy: (names) => `Read by ${joined(names)}`,
  online: "online",
  onlineCount: (/** @type {number} */ count) => `${count} online`,
  lastSeenAt: (/** @type {string} */ day, /** @type {string} */ time) => `last seen ${day ? `${day} ` : ""}at ${time}`,
  lastSeenOn: (/** @type {string} */ day) => `last seen on ${day}`,
  today: "Today",
  yesterday: "Yesterday",
  members: (/** @type {string[]} */ names, /** @type {number} */ more) =>
    more > 0 ? `${names.join(", ")} and ${more} more` : joined(names),
  unreadCount: (/** @type {number} */ count) => `${count} unread`,
  /** @param {string[]} names */
  typing: (names) => {
    if (names.length > 2) return "Several people are typing…";
    return `${joined(names)} ${names.length === 1 ? "is" : "are"} typing…`;
  },
  typingShort: "typing…",
  snippet: (/** @type {string} */ name, /** @type {string} */ body) => `${name}: ${body}`,
  deletedOne: (/** @type {string} */ name) => `${name} deleted a message`,
  editedOne: (/** @type {string} */ name, /** @type {string | undefined} */ body) =>
    body === undefined ? `${name} edited a message` : `${name} edited: ${body}`,
  userErased: (/** @type {string} */ user) => `The messages of ${user} were deleted`,
  notSentSnippet: (/** @type {string} */ body) => `Not sent: ${body}`,
  /** @param {string | null} by @param {string} user */
  memberAdded: (by, user) => (by === null ? `${user} joined` : `${by} added ${user}`),
  /** @param {string | null} by @param {string} user */
  memberRemoved: (by, user) => (by === null ? `${user} left` : `${by} removed ${user}`),
  subjectChanged: (/** @type {string} */ subject) => `The subject is now “${subject}”`,
  detailsChanged: "The details were updated",
  refusal: (/** @type {number | undefined} */ code, /** @type {string | undefined} */ reason) =>
    REFUSALS[code ?? 0] ?? (reason ? `The server refused it: ${reason}.` : "The server refused it."),
  title: (/** @type {number} */ unread) => (unread > 0 ? `(${unread}) Recado` : "Recado"),
};

/** @param {string[]} names */
function joined(names) {
  return names.length < 2 ? (names[0] ?? "") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
