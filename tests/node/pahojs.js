// Paho JS under driver.js: 3.1.1 over WebSocket, all that it speaks. It wants a browser's globals.

import { createRequire } from "node:module";

import { WebSocket } from "ws";

import { deliver, drive } from "./driver.js";

Object.assign(globalThis, { WebSocket });
const Paho = createRequire(import.meta.url)("paho-mqtt");

// `payloadString` throws where the payload is no UTF-8.
const textOf = (message) => new TextDecoder().decode(message.payloadBytes);

let client;
let delivered = () => {};

function asMessage(topic, payload, qos, retained) {
  return Object.assign(new Paho.Message(payload), { destinationName: topic, qos, retained });
}

drive({
  connect({ url, clientId, username, password, will, expiryInterval }) {
    client = new Paho.Client(url, clientId);
    client.onMessageArrived = (message) => deliver(message.destinationName, message.qos, textOf(message), message.retained);
    client.onMessageDelivered = () => delivered();
    return new Promise((resolve, reject) => {
      client.connect({
        ...(username && { userName: username, password }),
        ...(will && { willMessage: asMessage(will.topic, will.payload, 1, true) }),
        cleanSession: expiryInterval === undefined,
        mqttVersion: 4,
        mqttVersionExplicit: true,
        onSuccess: () => resolve(0),
        onFailure: ({ errorMessage }) => {
          const refused = /return code:(\d+)/.exec(errorMessage);
          if (refused) resolve(Number(refused[1]));
          else reject(new Error(errorMessage));
        },
      });
    });
  },

  subscribe({ filter, qos }) {
    return new Promise((resolve) => {
      client.subscribe(filter, {
        qos,
        onSuccess: ({ grantedQos }) => resolve(grantedQos[0]),
        onFailure: ({ errorCode }) => resolve(errorCode[0]),
      });
    });
  },

  publish({ topic, payload, qos, retain }) {
    return new Promise((resolve, reject) => {
      delivered = () => resolve(0);
      client.onConnectionLost = ({ errorMessage }) => reject(new Error(errorMessage));
      client.send(asMessage(topic, payload, qos, retain));
    });
  },

  close: () => client?.isConnected() && client.disconnect(),
});
