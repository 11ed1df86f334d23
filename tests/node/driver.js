// Drives one MQTT client from another process. Commands are JSON lines on standard input ({"do": "connect" | "subscribe"
// | "publish", ...}); each gets one line {"answer": <reason code or text>}. Deliveries are lines {"topic", "qos",
// "payload", "retain"}. The end of the input closes the connection.

import { createInterface } from "node:readline";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

export const deliver = (topic, qos, payload, retain) => say({ topic, qos, payload, retain });

// `client` has connect(command), subscribe(command), publish(command), each resolving to a reason code, and close().
export async function drive(client) {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
      say({ answer: await client[command.do](command) });
    } catch (error) {
      say({ answer: String(error.stack ?? error) });
    }
  }
  client.close();
  process.exit(0);
}
