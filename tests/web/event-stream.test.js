import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamReader } from "../../src/recado/web/event-stream.js";

const STREAM = 'retry: 2000\nid: 7\n\n:\n\nid: 8\ndata: {"a":": b"}\n\nevent: signal\ndata: {"c":1}\n\n';
const EVENTS = [
  { event: "message", data: '{"a":": b"}' },
  { event: "signal", data: '{"c":1}' },
];

test("a stream reads the same, wherever it is cut in two", () => {
  for (let cut = 0; cut <= STREAM.length; cut++) {
    const reader = new EventStreamReader();
    assert.deepEqual([...reader.push(STREAM.slice(0, cut)), ...reader.push(STREAM.slice(cut))], EVENTS, `at ${cut}`);
  }
});

test("lines that end with CRLF, and fields without a space after their colon, read the same", () => {
  const stream = 'id:8\r\ndata:{"a":": b"}\r\n\r\n: nothing\r\n\r\nevent:signal\r\ndata:{"c":1}\r\n\r\n';
  for (let cut = 0; cut <= stream.length; cut++) {
    const reader = new EventStreamReader();
    assert.deepEqual([...reader.push(stream.slice(0, cut)), ...reader.push(stream.slice(cut))], EVENTS, `at ${cut}`);
  }
});

test("a line ends where its end is, and not at a separator of its text", () => {
  assert.deepEqual(new EventStreamReader().push('data: "a\u2028b"\n\n'), [{ event: "message", data: '"a\u2028b"' }]);
});

test("an event is not there before its end", () => {
  assert.deepEqual(new EventStreamReader().push('data: {"a":1}\n'), []);
});

test("an event that never ends is given up", () => {
  const reader = new EventStreamReader();
  assert.throws(() => reader.push("x".repeat(1024 * 1024 + 1)), RangeError);
});
