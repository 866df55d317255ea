// The server for Bun, for the tests of our client: `bun bun.mjs PORT`. It does what node.mjs does.
import { createRequire } from "node:module";

// The packages are installed elsewhere: NODE_PATH says where, which is for require alone.
const { Server } = createRequire(import.meta.url)("@socket.io/bun-engine");

const report = (event, details) => console.log(JSON.stringify({ event, ...details }));
const queryOf = (request) => Object.fromEntries(new URL(request.url).searchParams);

const server = new Server({
  pingInterval: 1000,
  pingTimeout: 20_000,
  editHandshakeHeaders: (headers) => headers.set("Set-Cookie", "peer=sticky; Path=/; HttpOnly"),
  allowRequest: (request) => ("refuse" in queryOf(request) ? Promise.reject("not today") : Promise.resolve()),
});

const commands = {
  close: (socket) => {
    socket.write("goodbye");
    socket.close();
  },
  count: (socket, count) => {
    for (let i = 0; i < Number(count); i++) socket.write(i % 3 ? `server ${i}` : Buffer.from(`server ${i}`));
  },
  transport: (socket) => socket.write(socket.transport.name),
};

server.on("connection", (socket, request) => {
  const sid = socket.id;
  report("open", { sid, transport: socket.transport.name, query: queryOf(request) });
  socket.on("upgrade", (transport) => report("upgrade", { sid, transport: transport.name }));
  socket.on("packet", ({ type }) => type === "message" || report("packet", { sid, type }));
  socket.on("close", (reason) => report("close", { sid, reason }));
  // An empty text has no data.
  socket.on("data", (data = "") => {
    if (typeof data !== "string" || data[0] !== "!") return socket.write(data);
    const [command, ...given] = data.slice(1).split(" ");
    commands[command](socket, ...given);
  });
});

const { fetch, websocket, ...handler } = server.handler();
const { port } = Bun.serve({
  ...handler,
  // As with the usual `pingInterval`: twice that of here is little on a busy machine.
  idleTimeout: 50,
  port: Number(process.argv[2]),
  hostname: "127.0.0.1",
  websocket: { ...websocket, perMessageDeflate: true },
  fetch: (request, bun) => {
    const headers = Object.fromEntries(request.headers);
    report("request", { method: request.method, headers, query: queryOf(request) });
    return fetch(request, bun);
  },
});
report("listening", { port });
