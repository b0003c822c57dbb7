// Starts real servers for the tests: their own ports, their own configuration, stopped by their own process.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const PUBLISH_KEY = "a-key-for-the-tests-that-publish-quotes";
export const TOKEN_SECRET = "a-secret-of-thirty-two-bytes-or-more-for-tests";

const root = new URL("../../", import.meta.url).pathname;
const binary = process.env.TICKWIRE_BIN ?? new URL("../../target/debug/tickwire", import.meta.url).pathname;

async function freePorts(count) {
  const servers = [];
  for (let i = 0; i < count; i++) {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    servers.push(server);
  }
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return ports;
}

export class Server {
  /** @param {string} extra more configuration */
  static async start(extra = "") {
    const server = new Server();
    const [http, grpc, admin] = await freePorts(3);
    Object.assign(server, { http, grpc, admin, folder: mkdtempSync(join(tmpdir(), "tickwire-test-")) });
    server.config = join(server.folder, "tickwire.toml");
    writeFileSync(
      server.config,
      `[listen]
http = "127.0.0.1:${http}"
grpc = "127.0.0.1:${grpc}"
admin = "127.0.0.1:${admin}"

[drain]
spread = "500ms"

[[auth.key]]
name = "tests"
secret = "${PUBLISH_KEY}"
scopes = ["publish", "admin"]

[auth.jwt]
hs256_secret = "${TOKEN_SECRET}"

${extra}`,
    );
    await server.up();
    return server;
  }

  /** Runs a file of the project's own as it is, with other ports. */
  static async startFile(path) {
    const server = new Server();
    const [http, grpc, admin] = await freePorts(3);
    const set = { "listen.http": http, "listen.grpc": grpc, "listen.admin": admin };
    Object.assign(server, { http, grpc, admin, config: join(root, path), folder: mkdtempSync(join(tmpdir(), "tickwire-test-")) });
    server.args = Object.entries(set).flatMap(([key, port]) => ["--set", `${key}=127.0.0.1:${port}`]).concat("--set", "drain.spread=500ms");
    await server.up();
    return server;
  }

  /** Starts the process and waits until it is ready. */
  async up() {
    this.log = "";
    this.process = spawn(binary, ["serve", "-c", this.config, ...(this.args ?? [])], { stdio: ["ignore", "pipe", "pipe"] });
    this.exited = once(this.process, "exit");
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream.on("data", (chunk) => { this.log = (this.log + chunk).slice(-100_000); });
    }
    await eventually(() => fetch(`http://127.0.0.1:${this.admin}/readyz`).then((answer) => answer.ok), {
      what: "the server is ready",
      detail: () => this.log,
      stop: () => this.process.exitCode !== null,
    });
  }

  /** Asks the process to drain, and returns its exit code. */
  async down(signal = "SIGTERM") {
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill(signal);
    return this.ended();
  }

  /** Waits for the end of the process, whoever asked for it, and returns its exit code. */
  async ended() {
    const [code] = await this.exited;
    return code;
  }

  async restart(signal = "SIGTERM") {
    await this.down(signal);
    await this.up();
  }

  async stop() {
    await this.down("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  url(path = "/") { return `http://127.0.0.1:${this.http}${path}`; }
  socket(path = "/socket") { return `ws://127.0.0.1:${this.http}${path}`; }

  /** Sends an event to everyone in a topic. */
  async broadcast(topic, event, payload) {
    const answer = await fetch(this.url(`/v1/topics/${encodeURIComponent(topic)}/broadcast`), {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${PUBLISH_KEY}` },
      body: JSON.stringify({ event, payload }),
    });
    if (!answer.ok) throw new Error(`broadcast to ${topic}: ${answer.status} ${await answer.text()}`);
  }

  async publish(...quotes) {
    const answer = await fetch(this.url("/v1/quotes"), {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${PUBLISH_KEY}` },
      body: JSON.stringify(quotes),
    });
    const body = await answer.json();
    if (answer.status !== 202 || body.accepted !== quotes.length) {
      throw new Error(`published ${quotes.length} quotes: ${answer.status} ${JSON.stringify(body)}`);
    }
  }
}

/** A client token, as an application's own server makes them. */
export function mint(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ ...claims, exp: Math.floor(claims.exp) })}`;
  return `${text}.${createHmac("sha256", TOKEN_SECRET).update(text).digest("base64url")}`;
}

/** Waits until `check` is true or gives a value, and fails with what it waited for. */
export async function eventually(check, { what = "it", within = 15_000, detail = () => "", stop = () => false } = {}) {
  const deadline = Date.now() + within;
  let last;
  while (Date.now() < deadline && !stop()) {
    try {
      const value = await check();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    await new Promise((later) => setTimeout(later, 25));
  }
  throw new Error(`${what}: not within ${within} ms (last: ${last}) ${detail()}`);
}
