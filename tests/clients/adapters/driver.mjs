// A client library in another language: a small program of its own that is told what to do, and tells what happens, in lines of JSON.
//
// To the program:  {"id": 1, "do": "connect" | "join" | "push" | "cast" | "leave", "url", "params", "topic", "event", "payload", "resume": true}
// From it:         {"id": 1, "status": "ok" | "error" | "timeout", "response": …}
//                  {"topic", "joined": …, "asked"}   each successful join, those after a lost connection included; `asked` is the `since` it gave, if any
//                  {"topic", "event", "payload"}     each message
// It ends when its input does.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { Refused, Topic } from "./topic.mjs";

/** Longer than any library waits for its server. */
const ANSWER_MS = 30_000;

export class DriverClient {
  topics = new Map();
  waiting = new Map();
  next = 0;
  log = "";

  constructor([command, ...args], { url, params = {} }) {
    this.process = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.exited = once(this.process, "exit");
    this.process.stdin.on("error", () => {});
    this.process.stderr.on("data", (chunk) => { this.log = (this.log + chunk).slice(-20_000); });
    createInterface({ input: this.process.stdout }).on("line", (line) => this.receive(line));
    this.process.on("exit", () => {
      for (const { reject } of this.waiting.values()) reject(new Error(`${command} ended: ${this.log}`));
    });
    this.connected = this.ask({ do: "connect", url, params });
    this.connected.catch(() => {});
  }

  receive(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      this.log += `${line}\n`;
      return;
    }
    if ("id" in message) {
      const { resolve, reject } = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      if (message.status === "ok") resolve(message.response);
      else reject(new Refused(message.status, message.response));
    } else if ("joined" in message) {
      this.topics.get(message.topic)?.joined(message.joined, message.asked);
    } else {
      this.topics.get(message.topic)?.heard(message.event, message.payload);
    }
  }

  ask(what) {
    const id = (this.next += 1);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no answer to ${what.do} ${what.topic ?? ""}: ${this.log}`)), ANSWER_MS);
      const once = (then) => (value) => { clearTimeout(late); then(value); };
      this.waiting.set(id, { resolve: once(resolve), reject: once(reject) });
      this.process.stdin.write(`${JSON.stringify({ id, ...what })}\n`);
    });
  }

  /** @param {object | (() => object)} params a function stands for "where you are", which the program knows by itself */
  async join(topic, params = {}) {
    const seen = new Topic();
    this.topics.set(topic, seen);
    await this.connected;
    seen.first = await this.ask({ do: "join", topic, ...(typeof params === "function" ? { params: {}, resume: true } : { params }) });
    return seen;
  }

  push(topic, event, payload = {}) { return this.ask({ do: "push", topic, event, payload }); }
  cast(topic, event, payload = {}) { this.ask({ do: "cast", topic, event, payload }).catch(() => {}); }
  leave(topic) { return this.ask({ do: "leave", topic }); }

  async close() {
    this.process.stdin.end();
    const killer = setTimeout(() => this.process.kill("SIGKILL"), 5_000);
    await this.exited;
    clearTimeout(killer);
  }
}
