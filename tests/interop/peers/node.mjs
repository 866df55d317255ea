// A server on Node.js, for the tests of our client: `node node.mjs PACKAGE PORT`.
//
// It echoes messages, and prints what it sees as JSON objects, one a line. Text that starts with "!" is a command:
//
//   !close          send "goodbye", and close the session
//   !count N        send N messages in one go, "server 0", "server 1" …, every third of them binary
//   !transport      send the name of the session's transport
//
// A handshake with `refuse` in its query is refused.
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [name, port] = process.argv.slice(2);
const { Server } = createRequire(import.meta.url)(name);

const report = (event, details) => console.log(JSON.stringify({ event, ...details }));
const queryOf = (request) => Object.fromEntries(new URL(request.url, "http://localhost").searchParams);

const server = new Server({
  pingInterval: 1000,
  pingTimeout: 20_000,
  cookie: name.endsWith("-3") ? "peer" : { name: "peer" },
  perMessageDeflate: { threshold: 0 },
  allowRequest: (request, answer) =>
    "refuse" in queryOf(request) ? answer("not today", false) : answer(null, true),
});

const commands = {
  close: (socket) => {
    socket.send("goodbye");
    socket.close();
  },
  count: (socket, count) => {
    for (let i = 0; i < Number(count); i++) socket.send(i % 3 ? `server ${i}` : Buffer.from(`server ${i}`));
  },
  transport: (socket) => socket.send(socket.transport.name),
};

server.on("connection", (socket) => {
  const sid = socket.id;
  report("open", { sid, transport: socket.transport.name, query: queryOf(socket.request) });
  socket.on("upgrade", (transport) => report("upgrade", { sid, transport: transport.name }));
  socket.on("packet", ({ type }) => type === "message" || report("packet", { sid, type }));
  socket.on("close", (reason) => report("close", { sid, reason }));
  socket.on("message", (data) => {
    if (typeof data !== "string" || data[0] !== "!") return socket.send(data);
    const [command, ...given] = data.slice(1).split(" ");
    commands[command](socket, ...given);
  });
});

const http = createServer();
server.attach(http);
const seen = (request) => {
  const { method, headers } = request;
  report("request", { method, headers, query: queryOf(request) });
};
http.prependListener("request", seen);
http.prependListener("upgrade", seen);
http.listen(Number(port), "127.0.0.1", () => report("listening", { port: http.address().port }));
