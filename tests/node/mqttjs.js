// MQTT.js under driver.js: 3.1.1 and 5, over TCP and WebSocket.

import { readFileSync } from "node:fs";

import mqtt from "mqtt";

import { deliver, drive } from "./driver.js";

let client;
let five = false;

// The code of the next packet of that kind. The callbacks of MQTT.js turn some codes into texts; the packets keep them.
function nextCode(kind, codeOf) {
  return new Promise((resolve, reject) => {
    client.on("packetreceive", (packet) => packet.cmd === kind && resolve(codeOf(packet)));
    client.once("close", () => reject(new Error(`closed before ${kind}`)));
  });
}

drive({
  connect({ url, version, clientId, username, password, trusted, will, expiryInterval }) {
    five = version === 5;
    client = mqtt.connect(url, {
      protocolVersion: version,
      clientId,
      username,
      password,
      reconnectPeriod: 0,
      clean: expiryInterval === undefined,
      ...(trusted && { ca: readFileSync(trusted) }),
      ...(will && { will: { ...will, qos: 1, retain: true } }),
      ...(five && expiryInterval && { properties: { sessionExpiryInterval: expiryInterval } }),
    });
    client.on("message", (topic, payload, packet) => deliver(topic, packet.qos, payload.toString(), packet.retain));
    client.on("error", () => {}); // a refusal is an error too; its code comes with CONNACK
    return nextCode("connack", (packet) => (five ? packet.reasonCode : packet.returnCode));
  },

  async subscribe({ filter, qos, after }) {
    const code = nextCode("suback", (packet) => packet.granted[0]);
    const properties = after.length ? { properties: { userProperties: { after } } } : {};
    client.subscribe(filter, { qos, ...properties }, () => {});
    return code;
  },

  async publish({ topic, payload, qos, retain }) {
    if (qos === 0) {
      await client.publishAsync(topic, payload, { qos, retain });
      return 0;
    }
    const code = nextCode(qos === 1 ? "puback" : "pubcomp", (packet) => packet.reasonCode ?? 0);
    client.publish(topic, payload, { qos, retain }, () => {});
    return code;
  },

  close: () => client?.end(true),
});
