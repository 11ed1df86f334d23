// @ts-check
/**
 * A link: one open connection to Recado, of one of four kinds. What the kinds have in common is said here.
 *
 * Once `resume` has resolved, a link brings every event of the user's, at least once, and of the conversations that it
 * names also what came before; of the others the owner reads that over HTTP. A link ends once, and for good: `ended`
 * says why, and what still waits for an answer is rejected with `LinkClosed`.
 */

/** @import {ChatEvent, HttpApi, Session} from "./http-api.js" */
/** @import {Signal} from "./conversation-log.js" */
/** @import {OutboxMessage} from "./outbox.js" */

/** @typedef {"mqtt" | "websocket" | "event-stream" | "long-poll"} LinkKind */

/** The best first: each is worse than the one before in what it costs, or in what it brings. @type {LinkKind[]} */
export const LINK_KINDS = ["mqtt", "websocket", "event-stream", "long-poll"];

/**
 * @typedef {object} LinkEnd why a link is over
 * @property {"lost" | "token" | "server" | "closed"} why `lost`: without a word from the server, which speaks for a
 *   network or a proxy in the way; `token`: it is refused or has expired; `server`: the server said so, or did not
 *   take a message; `closed`: this page did it
 * @property {string} reason
 * @property {boolean} [wasUseless] whether nothing came over it but its opening
 *
 * @typedef {object} Answer what became of a message
 * @property {number} reasonCode as MQTT says it: 0x80 and more is a refusal
 * @property {string} reason
 *
 * @typedef {object} Link
 * @property {LinkKind} kind
 * @property {boolean} carriesSignals whether it brings signals (typing, read, delivered, presence)
 * @property {Promise<LinkEnd>} ended
 * @property {(positions: Array<[string, number]>) => Promise<string[]>} resume takes the seq that the page has, by
 *   conversation; resolves with those of which it brings everything after that
 * @property {(message: OutboxMessage) => Promise<Answer>} send
 * @property {(id: string) => void} typing
 * @property {(id: string, seq: number) => Promise<unknown>} read resolves once the server has it
 * @property {(id: string, seq: number) => void} acknowledge the page has everything up to this seq
 * @property {() => void} probe finds out whether it still lives
 * @property {() => void} close
 *
 * @typedef {object} LinkHooks
 * @property {(id: string, event: ChatEvent) => void} onEvent
 * @property {(id: string, signal: Signal) => void} onSignal
 * @property {() => void} onTurn a link without signals has heard from the server: what they would tell may be another
 *
 * @typedef {object} LinkOptions
 * @property {HttpApi} api
 * @property {Session} session
 * @property {LinkHooks} hooks
 * @property {string} clientId
 * @property {number} openMs how long it may take to open
 * @property {(url: string, protocol?: string) => WebSocket} openSocket
 */

/** What a wait on a link is rejected with when the link ends first, or never opens. */
export class LinkClosed extends Error {
  /** @param {LinkEnd} end */
  constructor(end) {
    super(end.reason);
    this.name = "LinkClosed";
    this.end = end;
  }
}
