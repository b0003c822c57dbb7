// phoenix.js, every minor version since 1.2 and what was ported from it, unchanged, under Node.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import WebSocket from "ws";
import XMLHttpRequest from "xhr2";
import { Refused, Topic } from "./topic.mjs";

const require = createRequire(import.meta.url);

/**
 * Versions before 1.8 look for `window`. They get one of their own, so that later ones, which go by what is global, do not
 * take this process for a browser.
 */
function withWindow(name) {
  const path = require.resolve(name);
  const module = { exports: {} };
  const window = { WebSocket, XMLHttpRequest };
  new Function("module", "exports", "require", "window", readFileSync(path, "utf8")).call(window, module, module.exports, require, window);
  return module.exports;
}

export const libraries = {
  "phoenix.js 1.2": () => withWindow("phoenix12"),
  "phoenix.js 1.3": () => withWindow("phoenix13"),
  "phoenix.js 1.4": () => withWindow("phoenix14"),
  "phoenix.js 1.5": () => withWindow("phoenix15"),
  "phoenix.js 1.6": () => withWindow("phoenix16"),
  "phoenix.js 1.7": () => withWindow("phoenix17"),
  "phoenix.js 1.8": () => require("phoenix18"),
  "phoenix-channels": () => require("phoenix-channels"),
};

export class PhoenixClient {
  topics = new Map();

  /**
   * @param {object} options
   * @param {string} options.url the mount, as `ws://host:port/socket`
   * @param {"websocket" | "longpoll" | "fallback"} options.transport
   * @param {object} options.params connect parameters
   * @param {number} options.retryMs how soon a connection, and a join, is tried again
   */
  constructor(library, { url, transport = "websocket", params = {}, retryMs = 50, ...options }) {
    const { Socket, LongPoll } = library;
    this.socket = new Socket(url, {
      params,
      transport: transport === "longpoll" ? LongPoll : WebSocket,
      reconnectAfterMs: () => retryMs,
      rejoinAfterMs: () => retryMs,
      ...options,
    });
    this.socket.connect();
  }

  /** @param {object | (() => object)} params a function is read again at each join (1.4 and later) */
  async join(topic, params = {}) {
    const seen = new Topic();
    const channel = this.socket.channel(topic, params);
    seen.channel = channel;
    channel.onMessage = (event, payload) => {
      if (!/^(phx_|chan_reply_)/.test(event)) seen.heard(event, payload);
      return payload;
    };
    channel.onError(() => { seen.errors += 1; });
    channel.onClose(() => { seen.closes += 1; });
    this.topics.set(topic, seen);
    // One hook for all answers: phoenix.js sends the same push again when it joins again.
    seen.first = await outcome(channel.join(), (reply) => seen.joined(reply));
    return seen;
  }

  push(topic, event, payload = {}) {
    return outcome(this.topics.get(topic).channel.push(event, payload));
  }

  /** Sends without waiting for an answer. */
  cast(topic, event, payload = {}) {
    this.topics.get(topic).channel.push(event, payload);
  }

  /** Waits for the server's own answer: the library counts a channel as left as soon as it has asked, and tells so. */
  leave(topic) {
    return new Promise((resolve) => {
      let push = null;
      this.socket.onMessage(({ event, ref, payload }) => {
        if (event === "phx_reply" && ref === push.ref) resolve(payload.response);
      });
      push = this.topics.get(topic).channel.leave();
    });
  }

  close() {
    this.socket.disconnect();
  }
}

/** Longer than the library itself waits. It does not count the time in which it has no connection. */
const ANSWER_MS = 30_000;

function outcome(push, each = () => {}) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Refused("never answered", push.event)), ANSWER_MS);
    const once = (then) => (value) => { clearTimeout(late); then(value); };
    push
      .receive("ok", once((reply) => { each(reply); resolve(reply); }))
      .receive("error", once((reason) => reject(new Refused("error", reason))))
      .receive("timeout", once(() => reject(new Refused("timeout", null))));
  });
}
