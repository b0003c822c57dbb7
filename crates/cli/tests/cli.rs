//! The binary as its users meet it: exit codes, what goes to which stream, and a whole round with a server on loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const BIN: &str = env!("CARGO_BIN_EXE_tickwire");

/// The binary with an environment of its own: nothing of the developer's settings, and development keys in `home`.
fn tickwire(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BIN);
    command.args(args).env_clear().env("XDG_RUNTIME_DIR", home).env("TMPDIR", home).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    tickwire(home.path(), args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a command and checks how it ends and that its error says all of `words`.
fn fails(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?} should say {word:?}: {text}");
    }
    assert_eq!(stdout(&output), "", "errors are no data");
}

#[test]
fn help_lists_the_commands_that_there_are() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expected =
        ["serve", "replay", "publish", "watch", "bench", "config", "token", "completions", "version", "help"];
    assert_eq!(commands, expected);
    let reference = include_str!("../../../docs/cli.md");
    for command in expected.iter().filter(|command| **command != "help") {
        assert!(reference.contains(&format!("## `tickwire {command}")), "docs/cli.md has a section on {command}");
    }
}

#[test]
fn wrong_usage_exits_2_and_says_what_was_expected() {
    fails(&["nonsense"], 2, &["unrecognized subcommand"]);
    fails(&["watch"], 2, &["TOPIC"]);
    fails(&["watch", "EURUSD", "--url", "localhost:4000"], 2, &["localhost:4000", "for example"]);
    fails(&["watch", "EUR USD"], 2, &["EUR USD", "is not a symbol", "for example EURUSD"]);
    fails(&["watch", ""], 2, &["TOPIC"]);
    fails(&["watch", "EURUSD", "--for", "soon"], 2, &["\"soon\"", "10s"]);
    fails(&["publish", "EURUSD"], 2, &["no price", "--bid"]);
    fails(&["publish", "--bid", "1"], 2, &["SYMBOL"]);
    fails(&["publish", "--file", "/nonexistent/quotes.csv"], 2, &["cannot read", "quotes.csv"]);
    fails(&["publish", "--file", "/nonexistent"], 2, &["cannot read /nonexistent"]);
    let not_quotes = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    fails(&["publish", "--file", not_quotes], 2, &[".ndjson", "--format"]);
    fails(&["publish", "EURUSD", "--bid", "1", "--url", "grpc://127.0.0.1:1"], 2, &["HTTP"]);
    fails(&["replay", "/nonexistent", "--to", "http://127.0.0.1:1"], 2, &["/nonexistent"]);
    fails(&["replay", "x", "--to", "http://127.0.0.1:1", "--speed", "fast"], 2, &["\"fast\"", "max"]);
    fails(&["bench", "ticker", "--topics", "501"], 2, &["topics"]);
    fails(&["token", "--sub", "a"], 2, &["auth.jwt.hs256_secret", "--secret-file"]);
    fails(&["serve", "--set", "listen.http=4000x"], 2, &["listen.http", "4000x", "0.0.0.0:4000"]);
    fails(&["serve", "--set", "listen.htp=127.0.0.1:0"], 2, &["listen.htp", "listen.http"]);
}

#[test]
fn nobody_there_exits_3() {
    // Nothing listens on port 1 of loopback.
    fails(&["watch", "EURUSD", "--url", "ws://127.0.0.1:1/socket"], 3, &["cannot connect", "127.0.0.1:1"]);
    fails(&["publish", "EURUSD", "--bid", "1", "--url", "http://127.0.0.1:1"], 3, &["cannot connect", "127.0.0.1:1"]);
    let bench = ["bench", "fanout", "--sockets", "1", "--url", "ws://127.0.0.1:1", "--grpc", "grpc://127.0.0.1:1"];
    let output = run(&bench);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[test]
fn a_configuration_is_checked_with_all_its_mistakes() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tickwire.toml");
    std::fs::write(&file, "[listen]\nhttp = \"4000x\"\n[limts]\nconnections = 5\n").unwrap();
    let path = file.to_str().unwrap();
    fails(&["config", "check", "-c", path], 2, &["2 problems", "tickwire.toml:2:", "tickwire.toml:3:", "limits"]);

    let output = tickwire(home.path(), &["config", "check", "-c", path, "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(2), &serde_json::json!(false)));
    assert_eq!(report["problems"][0]["line"], 2);

    let default = run(&["config", "default"]);
    std::fs::write(&file, &default.stdout).unwrap();
    let output = tickwire(home.path(), &["config", "check", "-c", path]).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "ok\n"), "{}", stderr(&output));

    let print = ["config", "print", "--json", "--set", "listen.http=127.0.0.1:5000"];
    let entries: serde_json::Value = serde_json::from_slice(&run(&print).stdout).unwrap();
    let http = entries.as_array().unwrap().iter().find(|entry| entry["key"] == "listen.http").unwrap();
    assert_eq!((&http["value"], &http["source"]), (&"127.0.0.1:5000".into(), &"set".into()));
}

#[test]
fn tokens_are_signed_with_private_keys() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/tests/keys");
    for (name, algorithm) in [("rsa", "RS256"), ("p256", "ES256"), ("ed25519", "EdDSA")] {
        let file = format!("{keys}/{name}.pem");
        let args = ["token", "--sub", "alice", "--key", &file, "--alg", algorithm, "--kid", "2030"];
        assert_eq!(stdout(&run(&args)).trim().matches('.').count(), 2);
        let other = if algorithm == "RS256" { "ES256" } else { "RS256" };
        fails(&["token", "--sub", "a", "--key", &file, "--alg", other], 2, &["--key", algorithm, "leave --alg out"]);
    }
    let public = format!("{keys}/rsa.pub.pem");
    fails(&["token", "--sub", "a", "--key", &public], 2, &["BEGIN PRIVATE KEY"]);
    fails(&["token", "--sub", "a", "--key", &public, "--alg", "none"], 2, &["RS256, ES256 or EdDSA"]);
    fails(&["token", "--sub", "a", "--kid", "x"], 2, &["--key"]);
}

#[test]
fn tokens_are_minted_with_a_secret_of_ones_own() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    let args = ["token", "--sub", "alice", "--allow", "ticker:*", "--secret-file", secret.to_str().unwrap()];
    let output = tickwire(home.path(), &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).trim().split('.').count(), 3);
    fails(&["token", "--sub", "a", "--allow", "", "--secret-file", "x"], 2, &["--allow"]);
}

#[test]
fn completions_and_version_are_data() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && stdout(&output).contains("tickwire"), "{shell}");
    }
    let version: serde_json::Value = serde_json::from_slice(&run(&["version", "--json"]).stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

/// A node on loopback, killed when dropped.
struct Server {
    child: Child,
    http: String,
    grpc: String,
    admin: String,
    home: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_at(tempfile::tempdir().unwrap(), "127.0.0.1:0")
    }

    /// Starts a node at an address; the other ports are free ones.
    fn start_at(home: tempfile::TempDir, http: &str) -> Self {
        let ports = [
            format!("listen.http={http}"),
            "listen.grpc=127.0.0.1:0".to_owned(),
            "listen.admin=127.0.0.1:0".to_owned(),
        ];
        let mut args = vec!["serve", "--set", "log.format=text"];
        args.extend(ports.iter().flat_map(|set| ["--set", set.as_str()]));
        let mut child = tickwire(home.path(), &args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready =
            lines.by_ref().map(Result::unwrap).find(|line| line.contains("ready ")).expect("the node gets ready");
        let address = |name: &str| {
            let (_, rest) = ready.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {ready}"));
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let [http, grpc, admin] = [("http", "http"), ("grpc", "grpc"), ("http", "admin")]
            .map(|(scheme, name)| format!("{scheme}://{}", address(name)));
        // The rest of its log is read, or the pipe would fill.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, http, grpc, admin, home }
    }

    /// Kills the node and starts another in its place, with the same development key.
    fn restart(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let http = self.http.trim_start_matches("http://").to_owned();
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
        Self::start_at(home, &http)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tickwire(self.home.path(), args);
        command.env("TICKWIRE_URL", &self.http);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_published_is_watched() {
    let server = Server::start();
    let mut watch =
        server.command(&["watch", "EURUSD", "room:lobby", "--for", "60s"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    // Besides what a test waits for there may be others, such as the feed's status.
    let mut next = |event: &str| loop {
        let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if line["event"] == event {
            return line;
        }
    };
    assert_eq!(next("snapshot")["payload"]["quote"], serde_json::Value::Null);

    let output = server.run(&["publish", "EURUSD", "--bid", "1.10", "--ask", "1.20", "--bid-size", "5"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "accepted 1, rejected 0\n"));
    let update = next("update");
    assert_eq!((&update["topic"], &update["payload"]["bid"]), (&"ticker:EURUSD".into(), &"1.10".into()));
    server.run(&["publish", "EURUSD", "--last", "1.15"]);
    assert_eq!(next("update")["payload"]["last"], "1.15");
    watch.kill().unwrap();
    watch.wait().unwrap();

    let output = server.run(&["watch", "EURUSD", "--count", "1"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).lines().count(), 1);
    let output = server.run(&["watch", "room:lobby", "--for", "50ms"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains(r#""event":"joined""#));
}

#[test]
fn files_and_standard_input_are_published_and_every_rejection_is_told() {
    let server = Server::start();
    let csv = server.home.path().join("quotes.csv");
    std::fs::write(&csv, "symbol,bid,ask\nA,1,2\nB,0,2\nC,3,4\n").unwrap();
    let output = server.run(&["publish", "--file", csv.to_str().unwrap()]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), "accepted 2, rejected 1\n"));
    assert!(stderr(&output).starts_with("line 3: "), "{}", stderr(&output));

    let json = server.home.path().join("quotes.json");
    std::fs::write(&json, r#"[{"symbol":"A","bid":1.5},{"symbol":"B","last":"2.50"}]"#).unwrap();
    let output = server.run(&["publish", "--json", "--file", json.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["accepted"], &report["rejected_total"]), (&2.into(), &0.into()));

    let mut publish = server
        .command(&["publish"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = publish.stdin.take().unwrap();
    stdin.write_all(b"{\"symbol\":\"A\",\"bid\":\"2\"}\n\n{\"symbol\":\"A\",\"bid\":\"-2\"}\n").unwrap();
    drop(stdin);
    let output = publish.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), "accepted 1, rejected 1\n"));
    assert!(stderr(&output).starts_with("line 3: bid"), "{}", stderr(&output));
}

#[test]
fn a_quote_that_is_published_again_is_told_as_a_duplicate() {
    let server = Server::start();
    let args = ["publish", "A", "--bid", "1", "--id", "q1"];
    assert_eq!(stdout(&server.run(&args)), "accepted 1, rejected 0\n");
    let again = server.run(&args);
    assert_eq!((again.status.code(), stdout(&again).as_str()), (Some(0), "accepted 1 (1 a duplicate), rejected 0\n"));
    let json = server.run(&[&args[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["accepted"], &report["duplicates"]), (&1.into(), &1.into()));
}

#[test]
fn a_watch_of_a_wrong_port_says_which_is_right() {
    let server = Server::start();
    let tls = server.http.replace("http:", "https:");
    for (url, code, words) in [
        (server.grpc.replace("grpc:", "ws:"), 3, "as gRPC; expected the port of listen.http"),
        (server.admin.replace("http:", "ws:"), 1, "; expected the port of listen.http"),
        (tls, 3, "write ws:// or http:// instead"),
    ] {
        let output = server.run(&["watch", "A", "--url", &url]);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(words) && !text.contains('{'), "{text}");
    }
}

#[test]
fn a_wrong_key_is_refused_and_says_so() {
    let server = Server::start();
    let output = server.run(&["publish", "A", "--bid", "1", "--key", "not-the-key-of-this-server"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("401"), "{}", stderr(&output));
    let output = server.run(&["watch", "A", "--token", "not.a.token"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!stderr(&output).contains("not.a.token"), "tokens are not repeated");
}

#[test]
fn a_replay_reports_bad_lines_and_plays_the_rest() {
    let server = Server::start();
    let file = server.home.path().join("oanda-eurusd-20140508-quote.csv");
    std::fs::write(&file, "45000000,1.1,1.2\nnonsense\n45000001,1.3,1.4\n45000002,1.5,1.").unwrap();
    let args = ["replay", file.to_str().unwrap(), "--speed", "max", "--json"];
    let output = server.run(&[&args[..], &["--to", &server.http]].concat());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["accepted"]), (Some(1), &2.into()), "{}", stderr(&output));
    let problems = stderr(&output);
    assert!(problems.contains("quote.csv:2: ") && problems.contains("quote.csv:4: "), "{problems}");

    let output = server.run(&[&args[..], &["--to", &server.http, "--map", "oanda-eurusdd=EUR/USD"]].concat());
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("\"oanda-eurusdd\"; there are oanda-eurusd\n"), "{text}");
}

#[test]
fn a_reader_that_goes_away_ends_a_watch_quietly() {
    let server = Server::start();
    server.run(&["publish", "A", "--bid", "1"]);
    let mut watch = server.command(&["watch", "A"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut reader = BufReader::new(watch.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    assert!(first.contains("snapshot"));
    drop(reader);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut bid = 2;
    let status = loop {
        server.run(&["publish", "A", "--bid", &bid.to_string()]);
        bid += 1;
        if let Some(status) = watch.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it should have ended");
    };
    assert_eq!(status.code(), Some(0));
    assert_eq!(stderr(&watch.wait_with_output().unwrap()), "");
}

#[test]
fn a_watch_survives_a_restart_of_the_server() {
    let server = Server::start();
    server.run(&["publish", "A", "--bid", "1"]);
    let mut watch = server.command(&["watch", "A"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut talk = BufReader::new(watch.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains(r#""bid":"1""#));
    let server = server.restart();
    assert!(talk.next().unwrap().contains("trying again"));
    assert!(talk.any(|line| line == "connected again"));
    // The new node has another epoch and knows nothing yet: a snapshot says so, and updates follow.
    assert!(lines.any(|line| line.contains("snapshot") && line.contains(r#""quote":null"#)));
    server.run(&["publish", "A", "--bid", "2"]);
    assert!(lines.any(|line| line.contains(r#""event":"update""#) && line.contains(r#""bid":"2""#)));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_small_bench_finds_nothing_lost() {
    let server = Server::start();
    for scenario in [
        &["fanout", "--sockets", "5", "--rate", "200"][..],
        &[
            "ticker",
            "--sockets",
            "6",
            "--symbols",
            "5",
            "--topics",
            "2",
            "--rate",
            "500",
            "--publishers",
            "2",
            "--readers",
            "2",
        ],
        &["idle", "--sockets", "5"],
        &["storm", "--sockets", "5", "--times", "2"],
        &["slow", "--sockets", "6", "--every", "3", "--stall", "200ms"],
        &["ingest", "--symbols", "3"],
        &["ingest", "--symbols", "3", "--via", "ndjson", "--rate", "2000", "--batch", "50"],
        &["ingest", "--symbols", "3", "--via", "csv"],
    ] {
        let mut args = vec!["bench"];
        args.extend(scenario);
        args.extend([
            "--for",
            "300ms",
            "--warm-up",
            "100ms",
            "--json",
            "--grpc",
            &server.grpc,
            "--admin",
            &server.admin,
        ]);
        let output = server.run(&args);
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        assert_eq!(output.status.code(), Some(0), "{report}");
        assert_eq!(report["setup"]["scenario"], scenario[0]);
        if scenario[0] == "storm" {
            assert_eq!(report["storm"]["seconds"].as_array().unwrap().len(), 2, "{report}");
        }
        if ["fanout", "ticker", "slow"].contains(&scenario[0]) {
            let delivered = &report["delivered"];
            assert!(delivered["deliveries"].as_u64().unwrap() > 0, "{report}");
            assert_eq!((&delivered["covered"], &delivered["missing"]), (&delivered["owed"], &0.into()), "{report}");
            assert!(delivered["per_read"]["mean"].as_f64().unwrap() >= 1.0, "{report}");
        }
    }
}

#[test]
fn the_limit_of_the_machine_is_measured_and_plotted() {
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("limit.svg");
    let mut limit = vec!["bench", "limit", "--sockets", "4", "--rate", "200", "--per-call", "2", "--for", "300ms"];
    limit.extend(["--warm-up", "0s", "--json", "--svg", plot.to_str().unwrap()]);
    let output = run(&limit);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["delivered"]["deliveries"], 240, "{report}");
    assert!(report["server"]["pid"].as_u64().is_some(), "{report}");
    assert!(std::fs::read_to_string(plot).unwrap().contains("<polyline"));
    fails(&["bench", "ingest", "--svg", "x.svg"], 2, &["--svg"]);
    fails(&["bench", "limit", "--payload", "10"], 2, &["payload"]);
    fails(&["bench", "suite", "--only", "no such load"], 2, &["--only"]);
}
