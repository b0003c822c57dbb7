//! SIGHUP: a running server takes a changed configuration over, and nobody who is connected notices.

use std::{fs, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tickwire_client::wire::Body;
use tickwire_tests::{
    PUBLISH_KEY, Process, Signal, eventually,
    socket::{Socket, json as text},
};

const KEY: &str = "an-api-key-of-the-file-of-this-test";

/// A server whose configuration is a file that a test writes.
struct Reloaded {
    server: Process,
    file: PathBuf,
    _directory: TempDir,
    /// How often it was told to reload.
    told: f64,
}

impl Reloaded {
    async fn start(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tickwire.toml");
        fs::write(&file, text).unwrap();
        let server = Process::start_file(&file, &["drain.spread=0s"]).await;
        Self { server, file, _directory: directory, told: 0.0 }
    }

    /// Writes another file, sends SIGHUP, and waits until it was obeyed or refused.
    async fn reload(&mut self, text: &str, outcome: &str) {
        fs::write(&self.file, text).unwrap();
        self.server.signal(Signal::HUP);
        self.told += 1.0;
        eventually("the reload is done", async || {
            let count = |outcome| self.server.metric("tickwire_config_reloads_total", outcome);
            let sum = count("outcome=\"ok\"").await + count("outcome=\"refused\"").await;
            (sum >= self.told).then_some(())
        })
        .await;
        let last = self.server.metric("tickwire_config_last_reload_successful", "").await;
        assert!((last > 0.5) == (outcome == "ok"), "{}", self.server.log());
    }

    async fn upgrade_status(&self, path: &str, origin: &str) -> u16 {
        let request = self.server.client.get(self.server.url(path));
        let request = request
            .header("origin", origin)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        request.send().await.unwrap().status().as_u16()
    }

    async fn publish_status(&self, key: &str) -> u16 {
        let request = self.server.client.post(self.server.url("/v1/quotes")).bearer_auth(key);
        request.json(&json!({"symbol": "ACME", "bid": "1.5"})).send().await.unwrap().status().as_u16()
    }
}

fn file(rest: &str) -> String {
    format!("[[auth.key]]\nname = \"tests\"\nsecret = \"{PUBLISH_KEY}\"\nscopes = [\"publish\", \"admin\"]\n{rest}")
}

#[tokio::test]
async fn channels_mounts_keys_and_origins_change_and_no_socket_drops() {
    let mut node = Reloaded::start(&file("")).await;
    let mut before = Socket::open(&node.server).await;
    before.join("ticker:ACME", &json!({})).await.unwrap();
    assert_eq!(before.join("desk:1", &json!({})).await.unwrap_err(), json!({"reason": "unmatched topic"}));
    assert_eq!(node.upgrade_status("/socket/websocket", "https://app.example").await, 403);
    assert_eq!(node.upgrade_status("/other/websocket", "https://app.example").await, 404);
    assert_eq!(node.publish_status(KEY).await, 401);

    let changed = format!(
        "[[auth.key]]\nname = \"other\"\nsecret = \"{KEY}\"\nscopes = [\"publish\", \"admin\"]\n\
         [limits]\nbody_bytes = 2000\n\
         [[channel]]\npattern = \"ticker:*\"\nkind = \"ticker\"\n[[channel]]\npattern = \"desk:*\"\nkind = \"room\"\n\
         [[socket]]\npath = \"/socket\"\nmax_channels = 1\norigins = [\"https://app.example\"]\n\
         [[socket]]\npath = \"/other\"\norigins = \"any\"\n[log]\nlevel = \"debug\"\n"
    );
    node.reload(&changed, "ok").await;
    // Who was there stays, sees updates, and may join what there is now.
    before.join("desk:1", &json!({})).await.unwrap();
    assert_eq!(node.publish_status(PUBLISH_KEY).await, 401);
    assert_eq!(node.publish_status(KEY).await, 202);
    let Body::Event { event, payload } = before.next().await.unwrap().body else { panic!("not an update") };
    assert!(event == "update" && String::from_utf8_lossy(&text(&payload)).contains("\"bid\":\"1.5\""));
    // Who comes now meets the new rules.
    assert_eq!(node.upgrade_status("/socket/websocket", "https://app.example").await, 101);
    assert_eq!(node.upgrade_status("/other/websocket", "https://elsewhere.example").await, 101);
    let mut after = Socket::open(&node.server).await;
    after.join("ticker:ACME", &json!({})).await.unwrap();
    assert_eq!(after.join("ticker:B", &json!({})).await.unwrap_err(), json!({"reason": "too many channels joined"}));
    let big = node.server.client.post(node.server.url("/v1/quotes")).bearer_auth(KEY).body(vec![b' '; 3000]);
    assert_eq!(big.header("content-type", "application/json").send().await.unwrap().status(), 413);
    let log = node.server.log();
    assert!(log.contains("log.level: \\\"info\\\" -> \\\"debug\\\""), "{log}");
    assert!(!log.contains(KEY) && !log.contains(PUBLISH_KEY), "a secret is in the log");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_why() {
    let mut node = Reloaded::start(&file("")).await;
    let mut socket = Socket::open(&node.server).await;
    node.reload(&file("[[channel]]\npattern = \"desk:*\"\nkind = \"rom\"\n[log]\nlevl = \"debug\"\n"), "refused").await;
    let log = node.server.log();
    for said in ["the configuration stays as it is", "did you mean log.level?", "is neither"] {
        assert!(log.contains(said), "{said}: {log}");
    }
    socket.join("ticker:ACME", &json!({})).await.unwrap();
    fs::remove_file(&node.file).unwrap();
    node.server.signal(Signal::HUP);
    eventually("a missing file is refused", async || {
        (node.server.metric("tickwire_config_reloads_total", "outcome=\"refused\"").await >= 2.0).then_some(())
    })
    .await;
    node.told += 1.0;
    node.reload(&file("[market]\nring = 100\n[log]\nlevel = \"debug\"\n"), "ok").await;
    let log = node.server.log();
    assert!(log.contains("these changes need a restart") && log.contains("market.ring: 512 -> 100"), "{log}");
}

#[tokio::test]
async fn feeds_come_and_go_and_those_that_stay_are_not_disturbed() {
    let feed = |name: &str, seed: u32| {
        format!("[[feed]]\nkind = \"simulated\"\nname = \"{name}\"\nseed = {seed}\nrate = 50\ncount = 3\n")
    };
    let mut node = Reloaded::start(&file(&(feed("stays", 1) + &feed("goes", 2)))).await;
    let names = async |node: &Reloaded| -> Vec<String> {
        let cluster: serde_json::Value = serde_json::from_str(&node.server.admin("/cluster").await.1).unwrap();
        cluster["feeds"].as_array().unwrap().iter().map(|feed| feed["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&node).await, ["stays", "goes"]);
    let ingested = async |node: &Reloaded| node.server.metric("tickwire_quotes_ingested_total", "").await;
    node.reload(&file(&(feed("stays", 1) + &feed("comes", 3))), "ok").await;
    assert_eq!(names(&node).await, ["stays", "comes"]);
    let so_far = ingested(&node).await;
    eventually("quotes go on", async || (ingested(&node).await > so_far + 20.0).then_some(())).await;
    node.reload(&file(""), "ok").await;
    assert!(names(&node).await.is_empty());
    assert_eq!(node.server.admin("/readyz").await.0, 200);
}
