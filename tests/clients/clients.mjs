// The client libraries under test. One table; every suite goes through it.
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { DriverClient } from "./adapters/driver.mjs";
import { libraries, PhoenixClient } from "./adapters/phoenix.mjs";

/**
 * What a library is able to do by itself; a scenario that needs more is not run with it.
 *
 * - `push`: sends events and shows the replies. `refusal`: shows why a join was refused by the server itself.
 * - `params`: passes join parameters. `reply`: shows the reply to a join. `leave`: leaves a channel.
 * - `order`: hands messages over in the order in which they came.
 * - `reconnect`: comes back after a lost connection and joins again.
 * - `rejoin`: joins again a channel that crashed. `ends`: shows that a channel was closed. `big`: takes messages of megabytes.
 * - `anew`: joins again after its connection was ended by the server alone. Over long polling no version before 1.8 does: they take the new
 *   session that the server offers for the old one, with Phoenix as well.
 * - `resume`: reads join parameters again at each join, so that it can say where it was.
 * - `again`: takes a second channel of a topic, and knows `join_ref`, by which it tells the end of the first from that of the second.
 * - `binary`: sends and takes binary payloads (over a websocket; long polling cannot carry them back).
 * - `heartbeat`: lets the interval of its heartbeats be set.
 */
const common = ["push", "order", "leave", "refusal"];
const javascript = [...common, "params", "reply", "reconnect", "anew", "rejoin", "ends", "heartbeat", "big"];

const phoenix = {
  "phoenix.js 1.2": { transports: ["websocket"], can: javascript },
  "phoenix.js 1.3": { transports: ["websocket", "longpoll"], can: [...javascript, "again"] },
  "phoenix.js 1.4": { transports: ["websocket", "longpoll"], can: [...javascript, "again", "resume"] },
  "phoenix.js 1.5": { transports: ["websocket", "longpoll"], can: [...javascript, "again", "resume"] },
  "phoenix.js 1.6": { transports: ["websocket", "longpoll"], can: [...javascript, "again", "resume", "binary"] },
  "phoenix.js 1.7": { transports: ["websocket", "longpoll"], can: [...javascript, "again", "resume", "binary"] },
  "phoenix.js 1.8": { transports: ["websocket", "longpoll"], can: [...javascript, "again", "resume", "binary"] },
  "phoenix-channels": { transports: ["websocket"], can: javascript },
};

/** What a library cannot do over long polling. */
const lost = (library) => ["binary", "heartbeat", ...(library === "phoenix.js 1.8" ? [] : ["anew"])];

const folder = (path) => new URL(path, import.meta.url).pathname;
/** Where `make test-tools` puts what it builds. */
export const tools = process.env.TICKWIRE_CLIENT_TOOLS ?? folder("../../target/client-tools");

const python = join(tools, "python/bin/python");
const drivers = {
  "phxsocket (Python)": {
    command: [python, folder("python/phxsocket_driver.py")],
    can: [...common, "params", "reply", "reconnect", "anew"],
  },
  "phoenix-channels-python-client": {
    command: [python, folder("python/phoenix_channels_driver.py")],
    can: ["order", "leave", "refusal", "reconnect"],
  },
  "phx (Go)": {
    command: [join(tools, "phx-driver")],
    can: ["push", "leave", "refusal", "reply", "reconnect", "anew", "rejoin", "big"],
  },
  "JavaPhoenixClient": {
    command: ["java", "-XX:TieredStopAtLevel=1", "-cp", `${join(tools, "java")}${delimiter}${join(tools, "java/*")}`, "Driver"],
    can: [...common, "params", "reply", "reconnect", "anew", "rejoin", "resume", "big"],
  },
  "phoenix_channels_client (Rust)": {
    command: [join(tools, "rust-driver")],
    can: ["push", "order", "leave", "big"],
  },
};

/** Why a driver cannot be run, or false. */
function missing([command, ...args]) {
  const paths = command.includes("/") ? [command] : process.env.PATH.split(delimiter).map((path) => join(path, command));
  const needed = args.includes("Driver") ? [join(tools, "java/Driver.class")] : [];
  return !(paths.some(existsSync) && needed.every(existsSync)) && "not installed: make test-tools says why";
}

const realtime = [python, folder("python/realtime_driver.py")];
/** supabase's client for Python, which knows topics of its own only. */
export const realtimePython = { command: realtime, missing: missing(realtime) };

/** Every library over every transport it knows: `{ name, transport, can, missing, open(options) }`. */
export const clients = [
  ...Object.entries(phoenix).flatMap(([library, { transports, can }]) => transports.map((transport) => ({
    name: `${library} over ${transport}`,
    library,
    transport,
    can: new Set(can.filter((what) => transport === "websocket" || !lost(library).includes(what))),
    missing: false,
    // Versions before 1.4 send a join again when this time is over, answered or not, and a second join ends the first.
    open: (options) => new PhoenixClient(libraries[library](), { transport, retryMs: can.includes("resume") ? 50 : 1_000, ...options }),
  }))),
  ...Object.entries(drivers).map(([library, { command, can }]) => ({
    name: library,
    library,
    transport: "websocket",
    can: new Set(can),
    missing: missing(command),
    driver: true,
    open: (options) => new DriverClient(command, options),
  })),
];
