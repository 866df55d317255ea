// The reference server of Socket.IO: `node node_socketio.mjs PORT PING_INTERVAL`, the interval in milliseconds.

import { createRequire } from "node:module";
import { createServer } from "node:http";

// The packages are installed elsewhere: NODE_PATH says where, which is for require alone.
const { Server } = createRequire(import.meta.url)("socket.io");

const [port, pingInterval] = process.argv.slice(2).map(Number);
const http = createServer();
const io = new Server(http, { pingInterval, pingTimeout: 20000 });

io.on("connection", (socket) => {
  socket.on("m", (data) => socket.emit("m", data));
  socket.on("a", (data, acknowledge) => acknowledge(data));
  socket.on("c", async (data, acknowledge) => acknowledge(data));
  socket.on("join", (acknowledge) => {
    socket.join("bench");
    acknowledge();
  });
  socket.on("b", (data) => io.to("bench").emit("b", data));
});

http.listen(port, "127.0.0.1", 4096);
