// Drives the stock engine.io-client through one scenario, and prints what its application notices.
//
//   node client.mjs <url> <scenario> <transports, as JSON> < <input, as JSON>
//
// Every event is one JSON object on a line of its own; the tests assert on those. The program ends by itself
// once the client holds nothing open any more, so a request or a connection that the server forgets keeps it
// running into its deadline.
import { readFileSync } from "node:fs";
import { Socket } from "engine.io-client";

const DEADLINE = 60_000;

const [url, scenario, transportsJson] = process.argv.slice(2);
const transports = JSON.parse(transportsJson);
const input = JSON.parse(readFileSync(0, "utf8") || "{}");

const report = (event, details) => console.log(JSON.stringify({ event, ...details }));

const fail = (message) => {
  console.error(`${scenario} over ${transports}: ${message}`);
  process.exit(1);
};

// Messages travel between this program and the tests as {text} or {binary: base64}.
const unpack = ({ text, binary }) => (binary === undefined ? text : Buffer.from(binary, "base64"));
// The client hands an empty text message to its application as undefined.
const pack = (data = "") => (typeof data === "string" ? { text: data } : { binary: Buffer.from(data).toString("base64") });

// A session whose events are all reported. input: {protocols}, or nothing
function open() {
  const socket = new Socket(url, { transports, protocols: input.protocols });
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

  // Only listens, until the server closes or a message says that it was the last. input: {last}, or {}
  listen() {
    const socket = open();
    socket.on("message", (data) => data === input.last && socket.close());
  },

  // Leaves as soon as something has happened. input: {when: the name of an event}
  leave() {
    const socket = open();
    const leave = () => socket.close();
    // The client forgets a close() within its `upgrade` event, where it still waits for that event: just after it.
    socket.once(input.when, input.when === "upgrade" ? () => queueMicrotask(leave) : leave);
  },

  // Sends without a break from the first moment until well after the upgrade, and leaves when all has come back.
  during() {
    const socket = open();
    let sent = 0;
    const send = (count) => {
      for (let i = 0; i < count; i++) socket.send(`client ${sent++}`);
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

  // Stays connected, but answers no ping.
  mute() {
    const socket = open();
    // The client has no option for this: a pong is sent by the method that sends every packet.
    const sendPacket = socket._sendPacket;
    socket._sendPacket = (type, ...rest) => type === "pong" || sendPacket.call(socket, type, ...rest);
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
