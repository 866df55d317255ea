import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // The program serves what is built at /react/.
  base: "./",
  // `npm run dev` serves the page itself, and passes sessions on to the program, WebSockets included.
  server: { proxy: { "/socket.io/": { target: "http://127.0.0.1:3000", ws: true } } },
});
