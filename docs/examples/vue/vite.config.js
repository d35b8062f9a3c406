import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

// The node answers under the page's own address: no other origin is involved, here as behind a reverse proxy.
const node = process.env.GREENROOM ?? "http://127.0.0.1:8000";
const proxy = { "/api": node, "/real-time": { target: node, ws: true } };

export default defineConfig({
  plugins: [vue()],
  // The client is a folder beside this one.
  server: { proxy, fs: { allow: ["../../.."] } },
  preview: { proxy },
});
