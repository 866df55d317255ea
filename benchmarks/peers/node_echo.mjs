// The reference server as an echo: `node node_echo.mjs PORT PING_INTERVAL`, the interval in milliseconds.

import { createRequire } from "node:module";
import { createServer } from "node:http";

// The packages are installed elsewhere: NODE_PATH says where, which is for require alone.
const { attach } = createRequire(import.meta.url)("engine.io");

const [port, pingInterval] = process.argv.slice(2).map(Number);
const http = createServer();
const server = attach(http, { pingInterval, pingTimeout: 20000 });

server.on("connection", (socket) => {
  socket.on("message", (data) => {
    if (typeof data === "string" && data.startsWith("broadcast:")) {
      for (const id in server.clients) server.clients[id].send(data);
    } else {
      socket.send(data);
    }
  });
});

http.listen(port, "127.0.0.1");
