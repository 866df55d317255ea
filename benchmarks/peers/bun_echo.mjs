// The server for Bun as an echo: `bun bun_echo.mjs PORT PING_INTERVAL`, the interval in milliseconds.

import { createRequire } from "node:module";

// The packages are installed elsewhere: NODE_PATH says where, which is for require alone.
const { Server } = createRequire(import.meta.url)("@socket.io/bun-engine");

const [port, pingInterval] = process.argv.slice(2).map(Number);
const server = new Server({ pingInterval, pingTimeout: 20000 });
// Its own table of sessions is not for applications.
const sockets = new Set();

server.on("connection", (socket) => {
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
  socket.on("data", (data) => {
    if (typeof data === "string" && data.startsWith("broadcast:")) {
      for (const each of sockets) each.write(data);
    } else {
      socket.write(data);
    }
  });
});

export default { port, hostname: "127.0.0.1", ...server.handler() };
