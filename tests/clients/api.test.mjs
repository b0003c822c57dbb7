// curl over HTTP, and a gRPC client that knows the API by reflection only.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { GrpcReflection } from "grpc-js-reflection-client";
import { eventually, PUBLISH_KEY, Server } from "./server.mjs";

const run = promisify(execFile);

describe("curl and gRPC", () => {
  let server;
  before(async () => { server = await Server.start(); });
  after(async () => { await server?.stop(); });

  /** @returns {Promise<{status: number, type: string, body: string}>} */
  async function curl(path, ...args) {
    const { stdout } = await run("curl", ["-sS", "-w", "\n%{http_code} %{content_type}", ...args, server.url(path)]);
    const end = stdout.lastIndexOf("\n");
    const [status, ...type] = stdout.slice(end + 1).split(" ");
    return { status: Number(status), type: type.join(" "), body: stdout.slice(0, end) };
  }
  const key = ["-H", `authorization: Bearer ${PUBLISH_KEY}`];
  const as = (type, body) => [...key, "-H", `content-type: ${type}`, "--data-binary", body];

  test("quotes come in as JSON, array, NDJSON and CSV", async () => {
    const bodies = [
      ["application/json", '{"symbol":"ONE","bid":1.10,"ask":"1.20"}'],
      ["application/json", '[{"symbol":"TWO","bid":"1","ask":"2"},{"symbol":"THREE","bid":"1","ask":"2"}]'],
      ["application/x-ndjson", '{"symbol":"FOUR","bid":"1","ask":"2"}\n{"symbol":"FIVE","bid":"1","ask":"2"}\n'],
      ["text/csv", "symbol,bid,ask\nSIX,1.50,1.60\nSEVEN,1,2\n"],
    ];
    for (const [type, body] of bodies) {
      const { status, body: text } = await curl("/v1/quotes", ...as(type, body));
      assert.equal(status, 202, text);
      assert.deepEqual(JSON.parse(text).rejected, []);
    }
    const one = JSON.parse((await curl("/v1/quotes/ONE")).body);
    assert.equal(one.bid, "1.10", "no float ever touched it");
    const all = JSON.parse((await curl("/v1/quotes")).body);
    assert.deepEqual(all.quotes.map(({ symbol }) => symbol).sort(), ["FIVE", "FOUR", "ONE", "SEVEN", "SIX", "THREE", "TWO"]);
  });

  test("what cannot be taken is refused one by one, with its reason", async () => {
    const body = '[{"symbol":"GOOD","bid":"1","ask":"2"},{"symbol":"BAD","bid":"-1","ask":"2"},{"symbol":"no spaces","bid":"1","ask":"2"}]';
    const { status, body: text } = await curl("/v1/quotes", ...as("application/json", body));
    const answer = JSON.parse(text);
    assert.deepEqual([status, answer.accepted], [202, 1]);
    assert.deepEqual(answer.rejected.map(({ index }) => index), [1, 2]);
    assert.ok(answer.rejected.every(({ error, retryable }) => error.length > 10 && retryable === false));
  });

  test("every refusal is problem JSON", async () => {
    const cases = [
      [401, "/v1/quotes", "-H", "content-type: application/json", "-d", "{}"],
      [400, "/v1/quotes", ...as("application/json", "{nonsense")],
      [415, "/v1/quotes", ...as("image/png", "x")],
      [404, "/v1/quotes/NO_SUCH"],
      [404, "/v1/nothing"],
      [405, "/v1/quotes/ONE", "-X", "DELETE"],
    ];
    for (const [expected, path, ...args] of cases) {
      const { status, type, body } = await curl(path, ...args);
      assert.equal(status, expected, `${path}: ${body}`);
      assert.match(type, /^application\/problem\+json/, path);
      assert.equal(JSON.parse(body).status, expected);
    }
  });

  test("an event stream starts with a snapshot and follows", async () => {
    await server.publish({ symbol: "STREAM", bid: "1", ask: "2" });
    const stream = spawn("curl", ["-sSN", server.url("/v1/stream?topics=ticker:STREAM")]);
    let text = "";
    stream.stdout.on("data", (chunk) => { text += chunk; });
    await eventually(() => text.includes("event: snapshot"), { what: "a snapshot", detail: () => text });
    await server.publish({ symbol: "STREAM", bid: "1.5", ask: "2" });
    await eventually(() => /event: update[\s\S]*"bid":"1\.5"/.test(text), { what: "an update", detail: () => text });
    stream.kill();
  });

  test("the admin port tells health and metrics", async () => {
    for (const path of ["/startupz", "/livez", "/readyz"]) {
      assert.equal((await fetch(`http://127.0.0.1:${server.admin}${path}`)).status, 200, path);
    }
    const metrics = await (await fetch(`http://127.0.0.1:${server.admin}/metrics`)).text();
    for (const name of ["tickwire_connections", "tickwire_quotes_ingested_total", "tickwire_build_info", "process_resident_memory_bytes", "http_requests_total"]) {
      assert.match(metrics, new RegExp(`^${name}`, "m"));
    }
  });

  test("gRPC by reflection: publish, read, follow", async () => {
    const address = `127.0.0.1:${server.grpc}`;
    const reflection = new GrpcReflection(address, grpc.ChannelCredentials.createInsecure());
    assert.ok((await reflection.listServices()).includes("tickwire.v1.MarketService"));
    const descriptor = await reflection.getDescriptorBySymbol("tickwire.v1.MarketService");
    const { tickwire } = descriptor.getPackageObject({ keepCase: true, longs: String });
    const client = new tickwire.v1.MarketService(address, grpc.credentials.createInsecure());
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${PUBLISH_KEY}`);
    const publish = (quotes) => new Promise((done, failed) => {
      const call = client.Publish(metadata, (error, answer) => (error ? failed(error) : done(answer)));
      for (const quote of quotes) call.write({ quotes: [quote] });
      call.end();
    });
    const answer = await publish([{ symbol: "GRPC", bid: "1.10", ask: "1.20" }, { symbol: "GRPC", bid: "x", ask: "1" }]);
    assert.equal(answer.accepted, "1");
    assert.equal(answer.rejected[0].index, "1");
    const got = await new Promise((done, failed) => client.GetQuote({ symbol: "GRPC" }, (error, value) => (error ? failed(error) : done(value))));
    assert.equal(got.quote.bid, "1.10");
    const missing = await new Promise((done) => client.GetQuote({ symbol: "NOPE" }, (error) => done(error)));
    assert.equal(missing.code, grpc.status.NOT_FOUND);
    // google.rpc.Status, whose ErrorInfo has the code of docs/codes.md and our domain.
    const [details] = missing.metadata.get("grpc-status-details-bin");
    assert.match(details.toString("latin1"), /google\.rpc\.ErrorInfo.*unknown_symbol.*tickwire/s);

    const stream = client.Subscribe({ topics: ["ticker:GRPC"] });
    const seen = [];
    stream.on("data", (message) => seen.push(message));
    stream.on("error", () => {});
    await eventually(() => seen[0]?.snapshot, { what: "a snapshot" });
    assert.equal(seen[0].snapshot.quote.bid, "1.10");
    await publish([{ symbol: "GRPC", bid: "1.30", ask: "1.40" }]);
    await eventually(() => seen.some(({ update }) => update?.bid === "1.30"), { what: "an update" });
    stream.cancel();

    const refused = await new Promise((done) => {
      const call = client.Publish(new grpc.Metadata(), (error) => done(error));
      call.on("error", () => {});
      call.end();
    });
    assert.equal(refused.code, grpc.status.UNAUTHENTICATED);
    client.close();
  });

  test("a drain ends with exit code 0", async () => {
    assert.equal(await server.down("SIGTERM"), 0);
    await server.up();
  });
});
