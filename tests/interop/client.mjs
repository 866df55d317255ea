// Drives a stock engine.io-client through one scenario, and prints what its application notices.
//
//   node client.mjs <url> <scenario> <transports, as JSON> < <input, as JSON>
//
// What every scenario takes as input:
//
//   client      the package, where it isn't engine.io-client
//   options     of the client
//   answers     whether to report the status and the headers of every answer, and how much a WebSocket has carried
//   fetch       whether to poll by fetch(), which takes compressed answers
//   xhr2        whether client 3 polls as in browsers, in bytes. Under Node.js it asks for base64
//
// Every event is one JSON object on a line of its own; the tests assert on those. The program ends by itself
// once the client holds nothing open any more, so a request or a connection that the server forgets keeps it
// running into its deadline.
import { readFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import * as latest from "engine.io-client";

const DEADLINE = 60_000;

const [url, scenario, transportsJson] = process.argv.slice(2);
const transports = JSON.parse(transportsJson);
const input = JSON.parse(readFileSync(0, "utf8") || "{}");

const require = createRequire(import.meta.url);

const report = (event, details) => console.log(JSON.stringify({ event, ...details }));

const fail = (message) => {
  console.error(`${scenario} over ${transports}: ${message}`);
  process.exit(1);
};

// Messages travel between this program and the tests as {text} or {binary: base64}.
const unpack = ({ text, binary }) => (binary === undefined ? text : Buffer.from(binary, "base64"));
// The client hands an empty text message to its application as undefined.
const pack = (data = "") => (typeof data === "string" ? { text: data } : { binary: Buffer.from(data).toString("base64") });

if (input.answers) {
  // What the clients' packages call.
  for (const name of ["get", "request"]) {
    const original = http[name];
    http[name] = (...args) => {
      const request = original(...args);
      const answered = ({ statusCode: status, headers }) => report("answer", { method: request.method, status, headers });
      request.on("response", answered);
      request.on("upgrade", (response, connection) => {
        answered(response);
        connection.on("close", () => report("carried", { in: connection.bytesRead, out: connection.bytesWritten }));
      });
      return request;
    };
  }
}

if (input.xhr2) {
  // The requests of client 6 can carry bytes. By the property `responseType` client 3 knows those that can.
  const XMLHttpRequest = createRequire(require.resolve("engine.io-client"))("xmlhttprequest-ssl");
  const path = require.resolve(`${input.client}/lib/transports/xmlhttprequest.js`);
  require(path);
  require.cache[path].exports = class extends XMLHttpRequest {
    responseType = "";
  };
}

const { Socket } = input.client ? require(input.client) : latest;

const byFetch = { polling: latest.Fetch, websocket: latest.NodeWebSocket };

// A session whose events are all reported.
function open() {
  const socket = new Socket(url, {
    transports: input.fetch ? transports.map((name) => byFetch[name]) : transports,
    // Where Node.js has a WebSocket of its own, client 3 would take that.
    forceNode: true,
    ...input.options,
  });
  socket.on("open", () => report("open", { sid: socket.id, transport: socket.transport.name }));
  socket.on("message", (data) => report("message", pack(data)));
  socket.on("upgrading", (transport) => report("upgrading", { transport: transport.name }));
  socket.on("upgrade", (transport) => report("upgrade", { transport: transport.name }));
  socket.on("upgradeError", (error) => report("upgradeError", { message: error.message }));
  socket.on("error", (error) => report("error", { message: error.message }));
  socket.on("close", (reason) => report("close", { reason }));
  return socket;
}

// Runs `then` once the session is on the transport it is going to stay on.
function settled(socket, then) {
  socket.once(transports.length > 1 ? "upgrade" : "open", then);
}

const scenarios = {
  // Sends the messages, and leaves when as many have come back. input: {messages}
  echo() {
    const socket = open();
    let missing = input.messages.length;
    socket.on("message", () => --missing || socket.close());
    settled(socket, () => input.messages.forEach((message) => socket.send(unpack(message))));
  },

  // Sends a message so many times in one go, and leaves when something comes back. input: {message, count}
  burst() {
    const socket = open();
    socket.on("message", () => socket.close());
    settled(socket, () => {
      for (let sent = 0; sent < input.count; sent++) socket.send(input.message);
    });
  },

  // Only listens, until the server closes or a message says that it was the last. input: {last}, or {}
  listen() {
    const socket = open();
    // An empty message is undefined here, as `last` may be.
    socket.on("message", (data) => "last" in input && data === input.last && socket.close());
  },

  // Leaves as soon as something has happened. input: {when: the name of an event}
  leave() {
    const socket = open();
    const leave = () => socket.close();
    // The client forgets a close() within its `upgrade` event, where it still waits for that event: just after it.
    socket.once(input.when, input.when === "upgrade" ? () => queueMicrotask(leave) : leave);
  },

  // Sends without a break from the first moment until well after the upgrade, and leaves when all has come back.
  // Every third message is binary.
  during() {
    const socket = open();
    let sent = 0;
    const send = (count) => {
      for (let i = 0; i < count; i++) {
        const text = `client ${sent}`;
        socket.send(sent++ % 3 ? text : Buffer.from(text));
      }
    };
    let timer;
    let left = Infinity;
    socket.on("open", () => {
      send(10);
      timer = setInterval(() => {
        send(10);
        if (--left > 0) return;
        clearInterval(timer);
        socket.send("last");
        report("sent", { count: sent });
      }, 1);
    });
    socket.on("upgrading", () => send(10));
    socket.on("upgrade", () => {
      left = 20;
      send(10);
    });
    socket.on("message", (data) => data === "last" && socket.close());
    socket.on("close", () => clearInterval(timer));
  },

  // Sends so many messages, one every other millisecond, whatever becomes of an upgrade, and leaves when all have come
  // back. input: {count}
  steady() {
    const socket = open();
    let sent = 0;
    let missing = input.count;
    socket.once("open", () => {
      const timer = setInterval(() => {
        socket.send(String(sent++));
        if (sent === input.count) clearInterval(timer);
      }, 2);
      socket.on("close", () => clearInterval(timer));
    });
    socket.on("message", () => --missing || socket.close());
  },

  // Stays connected, but has no heartbeat: answers no ping or, as client 3, sends none.
  mute() {
    const socket = open();
    // The clients have no option for this. A pong is sent by the method that sends every packet.
    const sendPacket = socket._sendPacket;
    socket._sendPacket = (type, ...rest) => type === "pong" || sendPacket.call(socket, type, ...rest);
    // Client 3 sends a ping in the first of these, and would notice in the second that it gets no answers.
    socket.setPing = socket.onHeartbeat = () => {};
  },

  // Opens a new session whenever one ends, as often as it takes, until it has said something and been answered.
  reconnect() {
    let answered = false;
    const again = () => {
      const socket = open();
      settled(socket, () => socket.send("again"));
      socket.on("message", () => {
        answered = true;
        socket.close();
      });
      socket.on("close", () => answered || setTimeout(again, 50));
    };
    open().on("close", again);
  },
};

setTimeout(() => fail(`not done after ${DEADLINE / 1000} s`), DEADLINE).unref();
if (!Object.hasOwn(scenarios, scenario)) fail("no such scenario");
scenarios[scenario]();
