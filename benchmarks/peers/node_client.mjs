// The reference client: `node node_client.mjs PORT`. It does what `clients.py` says on stdin: there the words are explained.

import { createRequire } from "node:module";
import { Agent } from "node:http";
import { createInterface } from "node:readline";

// The packages are installed elsewhere: NODE_PATH says where, which is for require alone.
const { Socket } = createRequire(import.meta.url)("engine.io-client");

const url = `http://127.0.0.1:${process.argv[2]}`;
// Without one, each request of polling has a connection of its own.
const agent = new Agent({ keepAlive: true });
const COUNT = 17;

const fail = (why) => {
  console.error(why);
  process.exit(1);
};

const made = {};

const messagesOf = (kind, size) =>
  (made[`${kind} ${size}`] ??= Array.from({ length: COUNT }, (_, number) => {
    if (kind === "binary") return Buffer.from(Array.from({ length: size }, (_, each) => (number * 31 + each * 7) % 256));
    const letters = "abcdefghijklmnopqrstuvwxyz".repeat(Math.floor(size / 26) + 2);
    return `${number} ${letters.slice(number)}`.slice(0, size);
  }));

// The client hands an empty text message to its application as undefined.
const isSame = (data = "", expected) =>
  typeof expected === "string" ? data === expected : typeof data !== "string" && Buffer.from(data).equals(expected);

class Session {
  open(transport) {
    const isUpgraded = transport === "upgrade";
    const transports = isUpgraded ? ["polling", "websocket"] : [transport];
    this.socket = new Socket(url, { transports, upgrade: isUpgraded, agent });
    this.socket.on("message", (data) => this.received(data));
    return new Promise((resolve) => {
      this.socket.on(isUpgraded ? "upgrade" : "open", resolve);
      this.socket.on("close", (reason) => this.isClosing || fail(`closed: ${reason}`));
    });
  }

  close() {
    this.isClosing = true;
    return new Promise((resolve) => {
      this.socket.on("close", resolve);
      this.socket.close();
    });
  }

  echo(messages, depth, count) {
    Object.assign(this, { messages, sent: Math.min(depth, count), came: 0, wanted: count });
    return new Promise((resolve) => {
      this.over = resolve;
      for (let number = 0; number < this.sent; number++) this.socket.send(messages[number % COUNT]);
    });
  }

  received(data) {
    if (!isSame(data, this.messages[this.came % COUNT])) fail(`message ${this.came} came back as ${data}`);
    this.came++;
    if (this.sent < this.wanted) this.socket.send(this.messages[this.sent++ % COUNT]);
    else if (this.came === this.wanted) this.over();
  }
}

const sessions = [];

const words = {
  async open(transport, count) {
    for (let left = Number(count); left > 0; left--) {
      const session = new Session();
      await session.open(transport);
      sessions.push(session);
    }
  },

  async echo(depth, count, kind, size) {
    const messages = messagesOf(kind, Number(size));
    const each = Math.floor(Number(count) / sessions.length);
    await Promise.all(sessions.map((session) => session.echo(messages, Number(depth), each)));
  },

  async renew(transport, atOnce, count) {
    let left = Number(count);
    const one = async () => {
      while (left > 0) {
        left--;
        const session = new Session();
        await session.open(transport);
        await session.close();
      }
    };
    await Promise.all(Array.from({ length: Number(atOnce) }, one));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [word, ...given] = line.split(" ");
  await words[word](...given);
  console.log("ok");
}
process.exit();
