// Runs stock clients of Socket.IO side by side, and prints what their applications notice.
//
//   node socketio_client.mjs <url> <scenario> < <clients, as JSON>
//
// Each client is {name, client: the package, options: of the client, msgpack}. Every event is one JSON object on a line
// of its own, with the name of the client. The program ends by itself once no client holds anything open any more, so a
// request or a connection that the server forgets keeps it running into its deadline.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { manage, pack, story } from "./socketio_story.mjs";

const DEADLINE = 60_000;

const [url, scenario] = process.argv.slice(2);
const clients = JSON.parse(readFileSync(0, "utf8"));
const require = createRequire(import.meta.url);

const report = (event, details) => console.log(JSON.stringify({ event, ...details }));

// Where Node.js has a WebSocket of its own, 2.x would take that.
const optionsOf = ({ name, options, msgpack }) => ({
  name,
  forceNode: true,
  ...options,
  ...(msgpack && { parser: require("socket.io-msgpack-parser") }),
});

const scenarios = {
  // Goes through the story.
  async story(each, io) {
    report("noticed", { name: each.name, noticed: await story(io, url, optionsOf(each)) });
  },

  // Stays in `namespaces`, reconnects whenever it has to, and does what the server says: it emits what comes as `do`,
  // and leaves at `leave`.
  stay({ namespaces = ["/"], ...each }, io) {
    const { join } = manage(io, url, optionsOf(each));
    const sockets = namespaces.map((namespace) => {
      const socket = join(namespace, each.auth);
      const told = (event, details) => report(event, { name: each.name, namespace, ...details });
      socket.on("connect", () => told("connect", { id: socket.id, recovered: socket.recovered }));
      socket.on("disconnect", (reason) => told("disconnect", { reason }));
      socket.on("said", (...args) => told("said", { args: pack(args) }));
      socket.on("do", (args, done) => {
        socket.emit(...args);
        done();
      });
      socket.on("leave", () => sockets.forEach((each) => each.disconnect()));
      return socket;
    });
  },
};

setTimeout(() => {
  console.error(`${scenario}: not done after ${DEADLINE / 1000} s`);
  process.exit(1);
}, DEADLINE).unref();
await Promise.all(clients.map((each) => scenarios[scenario](each, require(each.client))));
