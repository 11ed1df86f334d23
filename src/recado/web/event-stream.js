// @ts-check
/** Server-sent events, from pieces of text to events: what `EventSource` does, which cannot send a token. */

const EVENT_CHARS_MAX = 1024 * 1024;

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
    const blocks = (this.rest + piece).split("\n\n");
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
    const [name, value] = [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)];
    if (name === "event") event = value;
    if (name === "data") data.push(value);
  }
  return { event, data: data.join("\n") };
}
