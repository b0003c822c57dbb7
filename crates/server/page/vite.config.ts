import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds a running node; the built page always talks to the host that served it. */
const node = process.env.TICKWIRE_URL ?? "http://127.0.0.1:4000";

export default defineConfig({
  build: {
    outDir: "dist",
    assetsDir: "assets",
    target: "es2022",
    // Everything is one small module; without lazy chunks there is nothing to preload.
    modulePreload: false,
    // The licence of the bundled client asks for its notice in every copy.
    rolldownOptions: { output: { postBanner: "/*! Includes phoenix, (c) 2014 Chris McCord, MIT licence */" } },
  },
  server: {
    proxy: {
      "/v1": node,
      "/socket": { target: node, ws: true },
    },
  },
  test: { include: ["test/**/*.test.ts"] },
});
