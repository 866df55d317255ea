import react from "@vitejs/plugin-react";
import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react(), vue()],
  build: { rollupOptions: { input: ["react.html", "vue.html"] } },
  // `npm run dev` serves the pages itself, and passes sessions on to the program, WebSockets included.
  server: { proxy: { "/engine.io/": { target: "http://127.0.0.1:3000", ws: true } } },
});
