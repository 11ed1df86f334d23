// @ts-check
/**
 * Server-sent events, from pieces of text to events: what `EventSource` does, which cannot send a token. Lines end with
 * LF, as Recado writes them, or CRLF.
 */

const EVENT_CHARS_MAX = 1024 * 1024;
const FIELD = /^([^:]*)(?:: ?(.*))?$/s;

/** @typedef {{event: string, data: string}} StreamedEvent */

export class EventStreamReader {
  constructor() {
    this.rest = "";
  }

  /**
   * @param {string} piece
   * @returns {StreamedEvent[]} those that are whole now; comments and events without data are none
   */
  push(piece) {
    const blocks = (this.rest + piece).replaceAll("\r\n", "\n").split("\n\n");
    this.rest = blocks.pop() ?? "";
    if (this.rest.length > EVENT_CHARS_MAX) throw new RangeError("an event of the stream has no end");
    return blocks.map(parsedBlock).filter(({ data }) => data !== "");
  }
}

/** @param {string} block */
function parsedBlock(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, name, value = ""] = FIELD.exec(line) ?? [];
    if (name === "event") event = value;
    if (name === "data") data.push(value);
  }
  return { event, data: data.join("\n") };
}
