//! The configuration as its users meet it: layers, spans, suggestions, all problems at once, no secret in sight.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use tickwire_channels::handshake::Origins;
use tickwire_market::feed::FeedKind;
use tickwire_market::{Symbol, Symbols};

use super::*;

/// Loads a file's text with an environment and `--set`s.
fn load(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, Vec<String>> {
    let file = written(text);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    let path = file.path().display().to_string();
    let result = Config::load(Sources { file: Some(PathBuf::from(&path)), env, sets });
    result.map_err(|errors| errors.to_string().replace(&path, "t.toml").lines().map(str::to_owned).collect())
}

fn written(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// States the problems, one expected fragment for each, in any order.
#[track_caller]
fn check_problems(text: &str, env: &[(&str, &str)], sets: &[&str], expected: &[&str]) {
    let problems = load(text, env, sets).expect_err("this has problems");
    let mut rest = problems.clone();
    for expected in expected {
        match rest.iter().position(|problem| problem.contains(expected)) {
            Some(found) => drop(rest.remove(found)),
            None => panic!("nothing says: {expected}\n{problems:#?}"),
        }
    }
    assert_eq!(rest, Vec::<String>::new(), "nobody expects these");
}

fn entry<'a>(config: &'a Config, key: &str) -> &'a Entry {
    config.entries.iter().find(|entry| entry.key == key).unwrap_or_else(|| panic!("{key} is an entry"))
}

/// What is in force, without where it came from.
fn values(config: &Config) -> BTreeMap<&str, Option<&str>> {
    config.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_deref())).collect()
}

#[test]
fn the_default_file_is_the_default() {
    let from_file = load(default_text(), &[], &[]).unwrap();
    assert_eq!(values(&from_file), values(&Config::default()));
}

#[test]
fn no_key_is_needed() {
    let config = Config::default();
    assert_eq!((config.entries[0].key.as_str(), config.entries[2].key.as_str()), ("node.id", "listen.http"));
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:4000");
    assert_eq!(config.sockets.len(), 1);
    assert_eq!(config.sockets[0].path, "/socket");
    assert_eq!(config.channels.iter().map(|rule| rule.pattern.to_string()).collect::<Vec<_>>(), ["ticker:*", "room:*"]);
    assert!(config.feeds.is_empty());
    assert!(config.node.id.ends_with(":4100"), "{}", config.node.id);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn later_layers_win() {
    let text = "[listen]\nhttp = '127.0.0.1:1'\ngrpc = '127.0.0.1:2'\nadmin = '127.0.0.1:3'\n";
    let env = [("TICKWIRE_LISTEN__GRPC", "127.0.0.1:20"), ("TICKWIRE_LISTEN__ADMIN", "127.0.0.1:30")];
    let config = load(text, &env, &["listen.admin=127.0.0.1:299", "listen.admin=127.0.0.1:300"]).unwrap();
    let ports =
        [config.listen.http, config.listen.grpc, config.listen.admin, config.listen.mesh].map(|address| address.port());
    assert_eq!(ports, [1, 20, 300, 4100]);
    let origins =
        ["http", "grpc", "admin", "mesh"].map(|key| entry(&config, &format!("listen.{key}")).origin.to_string());
    assert!(origins[0].ends_with(":2:8"), "{}", origins[0]);
    assert_eq!(origins[1..], ["TICKWIRE_LISTEN__GRPC", "--set", "default"]);
}

#[test]
fn the_environment_holds_every_type() {
    let env = [
        ("TICKWIRE_LIMITS__CONNECTIONS", "1_000"),
        ("TICKWIRE_LIMITS__BODY_BYTES", "2MiB"),
        ("TICKWIRE_DRAIN__SPREAD", "3s"),
        ("TICKWIRE_RUNTIME__PIN", "true"),
        ("TICKWIRE_MARKET__SYMBOLS", "listed"),
        ("TICKWIRE_MARKET__LISTED", "EURUSD, BTCUSDT.P"),
        ("TICKWIRE_AUTH__ANONYMOUS", r#"{"read": false}"#),
        ("TICKWIRE_LISTEN__HTTP", "[::1]:4000"),
        (
            "TICKWIRE_SOCKET",
            r#"[{"path": "/a", "origins": ["https://x.example"]}, {"path": "/b", "idle_timeout": "5s"}]"#,
        ),
        (
            "TICKWIRE_FEED",
            r#"[{"kind": "replay", "path": "ticks", "speed": 2.5, "symbols": {"spot-btcusdt": "BTC-USDT"}}]"#,
        ),
        ("PATH", "/bin"),
    ];
    let config =
        load("", &env, &["auth.anonymous={write = true}", "log.level=debug", "node.zone=\"7\"", "node.id=7"]).unwrap();
    assert_eq!(config.limits.connections, Some(1000));
    assert_eq!(config.limits.body_bytes, 2 << 20);
    assert_eq!(config.drain.spread.as_secs(), 3);
    assert!(config.runtime.pin);
    let listed = ["EURUSD", "BTCUSDT.P"].map(|text| Symbol::new(text).unwrap());
    assert_eq!(config.market.symbols, Symbols::Listed(listed.into_iter().collect()));
    assert_eq!(config.auth.anonymous, AnonymousRights { read: false, write: true });
    assert_eq!(config.listen.http.to_string(), "[::1]:4000");
    assert_eq!(config.sockets.iter().map(|mount| mount.path.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
    assert_eq!(config.sockets[0].origins, Origins::List(vec!["https://x.example".parse().unwrap()]));
    let FeedKind::Replay(replay) = &config.feeds[0].kind else { panic!("a replay") };
    assert_eq!((replay.speed.factor(), &replay.paths[..]), (Some(2.5), &[PathBuf::from("ticks")][..]));
    assert_eq!(replay.symbols.symbol_of("spot-btcusdt").unwrap().as_str(), "BTC-USDT");
    assert_eq!((config.log.level.as_str(), config.node.zone.as_str(), config.node.id.as_str()), ("debug", "7", "7"));
}

#[test]
fn a_mounted_secret_is_read_without_its_newline() {
    let secret = written("0123456789abcdef0123456789abcdef\n");
    let path = secret.path().to_str().unwrap();
    let expected = Some(Secret::new("0123456789abcdef0123456789abcdef"));
    let config = load("", &[("TICKWIRE_AUTH__JWT__HS256_SECRET_FILE", path)], &[]).unwrap();
    assert_eq!(config.auth.jwt.hs256_secret, expected);
    let config = load(&format!("auth.jwt.hs256_secret_file = '{path}'"), &[], &[]).unwrap();
    assert_eq!(config.auth.jwt.hs256_secret, expected);

    check_problems(
        "auth.jwt.hs256_secret_file = '/none'\ncluster.secret_file = '/none'\ncluster.secret = 'x'",
        &[("TICKWIRE_NODE__ID_FILE", "/none"), ("TICKWIRE_LOG__LEVEL", "info"), ("TICKWIRE_LOG__LEVEL_FILE", path)],
        &[],
        &[
            "log.level: is also set by TICKWIRE_LOG__LEVEL; remove one of the two (from the environment: TICKWIRE_LOG__LEVEL_FILE)",
            "node.id: cannot read /none: there is no such file; check the path (from the environment: TICKWIRE_NODE__ID_FILE)",
            "t.toml:2:23: cluster.secret_file: cluster.secret is set, too; remove one of the two",
            "t.toml:1:30: auth.jwt.hs256_secret_file: cannot read /none: there is no such file",
        ],
    );
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    let text = "\
[listen]
http = \"4000x\"
gprc = \"127.0.0.1:1\"

[limits]
connections = 0
body_bytes = \"much\"
header_timeout = 10

[drian]
delay = \"1s\"

[[socket]]
path = \"socket\"
origins = [\"app.example\"]
longpoll = \"on\"

[[socket]]
path = \"/v1/x\"
";
    check_problems(
        text,
        &[("TICKWIRE_RUNTIME__PIN", "yes"), ("TICKWIRE_MARKET__RNIG", "1")],
        &["log.format=xml", "shards=4", "market", "=1"],
        &[
            "t.toml:2:8: listen.http: \"4000x\" is not an address:port, for example \"0.0.0.0:4000\"",
            "t.toml:3:1: listen.gprc: unknown key; did you mean listen.grpc?",
            "t.toml:6:15: limits.connections: 0 is out of range, expected 1 to 10000000",
            "t.toml:7:14: limits.body_bytes: \"much\" is not a size, for example 65536, \"64KiB\" or \"1MiB\"",
            "t.toml:8:18: limits.header_timeout: 10 has no unit; a duration reads \"250ms\", \"10s\", \"1m\" or \"1h\"",
            "t.toml:10:2: drian: unknown key; did you mean drain?",
            "t.toml:14:8: socket[0].path: \"socket\" is not a path, for example \"/socket\"",
            "t.toml:15:11: socket[0].origins: a list holds an entry that cannot be used: \"app.example\" is not an origin: expected https://host",
            "t.toml:16:12: socket[0].longpoll: \"on\" is neither true nor false",
            "t.toml:19:8: socket[1].path: \"/v1/x\" belongs to the HTTP API or the page",
            "\"market\" is not KEY=VALUE, for example limits.connections=1000 (from --set)",
            "\"\" is not a key, for example listen.http (from --set)",
            "runtime.pin: \"yes\" is neither true nor false (from the environment: TICKWIRE_RUNTIME__PIN)",
            "log.format: \"xml\" is none of \"auto\", \"text\", \"json\" (from --set)",
            "market.rnig: unknown key; did you mean market.ring? (from the environment: TICKWIRE_MARKET__RNIG)",
            "shards: unknown key; did you mean market.shards? (from --set)",
        ],
    );
}

/// A client would be answered by the page's files, or by the socket, as its request happens to come.
#[test]
fn sockets_are_mounted_beside_the_api_and_the_page() {
    for path in ["/v1", "/v1/a", "/assets", "/assets/a"] {
        let problems = load("", &[], &[&format!("socket=[{{path=\"{path}\"}}]")]).expect_err(path);
        assert!(problems.len() == 1 && problems[0].contains("belongs to the HTTP API or the page"), "{problems:?}");
    }
    assert!(load("", &[], &["socket=[{path=\"/v10\"}, {path=\"/a/v1\"}]"]).is_ok());
}

#[test]
fn threads_that_cannot_be_are_told() {
    let seen = "[runtime]\nworkers = 10000\ncompute_threads = 0\npin = 1\n";
    check_problems(
        seen,
        &[],
        &[],
        &[
            "t.toml:2:11: runtime.workers: 10000 is out of range, expected 1 to 1024",
            "t.toml:3:19: runtime.compute_threads: 0 is out of range, expected 1 to 64",
            "t.toml:4:7: runtime.pin: 1 is neither true nor false",
        ],
    );
    for bad in ["workers=0", "workers=all", "workers=-1", "workers=1.5", "compute_threads=65", "compute_threads=auto"] {
        let problems = load("", &[], &[&format!("runtime.{bad}")]).expect_err(bad);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("runtime."), "{problems:?}");
    }
    let config = load("", &[("TICKWIRE_RUNTIME__WORKERS", "1024")], &["runtime.compute_threads=64"]).unwrap();
    assert_eq!((config.runtime.workers, config.runtime.compute_threads), (Some(1024), 64));
    assert_eq!(load("", &[], &["runtime.workers=auto"]).unwrap().runtime.workers, None);
}

/// `verbose` would be taken for the name of a part, and nearly all logs be lost.
#[test]
fn a_log_level_is_a_level() {
    for good in ["info", "WARN", "off", "info,tickwire_market=debug", "tickwire_channels=trace"] {
        assert_eq!(load("", &[], &[&format!("log.level={good:?}")]).unwrap().log.level, good);
    }
    for bad in ["verbose", "", "info,verbose", "market=loud"] {
        assert!(load("", &[], &[&format!("log.level={bad:?}")]).is_err(), "{bad}");
    }
}

#[test]
fn syntax_errors_have_a_place_and_a_cure() {
    check_problems(
        "[listen]\nhttp = 0.0.0.0:4000\nadmin =\n[node\nid = 'a'\nx = 'b'\n",
        &[("TICKWIRE_RUNTIME__PIN", "1")],
        &[],
        &[
            "t.toml:2:11: invalid float; text stands in quotes, for example key = \"value\" (at \"http\")",
            "t.toml:3:8: string values must be quoted; a key needs a value behind the `=` (at \"admin\")",
            "t.toml:4:6: unclosed table; a section is written [name], an entry of a list [[name]] (at \"[node\")",
            "runtime.pin: \"1\" is neither true nor false",
        ],
    );
    check_problems("node.id = 'a'\nnode.id = 'b'\n", &[], &[], &["t.toml:2:6: duplicate key"]);
    check_problems("listen: x\n", &[], &[], &["a setting is written key = value"]);
    let problems = load("auth.jwt.hs256_secret = topsecretword\n", &[], &[]).expect_err("no quotes");
    assert!(problems[0].starts_with("t.toml:1:"), "{problems:?}");
    assert!(problems[0].contains("text stands in quotes"), "{problems:?}");
    assert!(!problems.join("").contains("topsecretword"), "{problems:?}");
}

#[test]
fn keys_must_fit_each_other() {
    check_problems(
        "listen.grpc = '0.0.0.0:4000'\nmarket.listed = ['A']\ncluster.require = true\ndrain.spread = '2m'\n",
        &[],
        &[],
        &[
            "t.toml:1:15: listen.grpc: \"0.0.0.0:4000\" is also the address of listen.http",
            "t.toml:3:19: cluster.require: needs cluster.expect",
            "drain.deadline: \"1m\" is shorter than drain.delay and drain.spread together, \"2m\"",
            "t.toml:2:17: market.listed: has no effect while market.symbols is \"open\"",
        ],
    );
}

/// A wrong key has its default in its place; what that default does not fit is no second mistake of the user.
#[test]
fn one_mistake_is_one_problem() {
    let neither = "market.symbols: \"listd\" is neither \"open\" nor \"listed\"";
    check_problems("market = {symbols = 'listd', listed = ['A']}", &[], &[], &[neither]);
    check_problems("[[socket]]\n[[socket]]\npath = 'x'", &[], &[], &["socket[1].path: \"x\" is not a path"]);
}

#[test]
fn limits_and_certificates_that_cannot_be_say_why() {
    check_problems(
        "limits = {connections_per_user = 0, joins_per_second_per_address = 'many', trusted_proxies = ['10.0.0.0/8', 'lan'],\
         client_address_header = 'Forwarded', accepts_per_second_per_address = 'none'}\nlisten.tls.cert = 'x'",
        &[],
        &[],
        &[
            "limits.connections_per_user: 0 is out of range, expected 1 to 10000000",
            "limits.joins_per_second_per_address: \"many\" is not a whole number from 0 up, nor \"none\"",
            "limits.trusted_proxies: a list holds \"lan\", which is neither a network nor an address",
            "limits.client_address_header: \"Forwarded\" is of another form than a list of addresses",
            "listen.tls.cert: needs listen.tls.key beside it",
        ],
    );
    let missing = "listen.tls = {cert = 'no-such.crt', key = 'no-such.key'}";
    check_problems(missing, &[], &[], &["listen.tls.cert: no-such.crt cannot be read: No such file"]);
}

#[test]
fn problems_stand_in_the_order_of_the_file() {
    let problems = load("log.level = 1\nx = 1\nlisten.http = 1\n", &[("TICKWIRE_A__B", "")], &[]).expect_err("four");
    let starts: Vec<_> = problems.iter().map(|problem| problem.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["t.toml:1:13:", "t.toml:2:1:", "t.toml:3:15:", "a:"]);
}

#[test]
fn what_this_version_cannot_do_is_said_and_not_ignored() {
    check_problems(
        "cluster.discovery = 'dns'\ncluster.dns_name = 'x'\notel.endpoint = 'http://x'\n\
         channel = [{pattern = 'room:*', kind = 'room', presence = true}, {pattern = 'bars:*', kind = 'bars'}]\n",
        &[],
        &[],
        &[
            "cluster.discovery: \"dns\" asks for a cluster of several nodes, which is not available in this version; remove the key or set it to \"none\"",
            "cluster.dns_name: is about a cluster of several nodes",
            "channel[0].presence: true asks for presence",
            "channel[1].kind: \"bars\" is not available in this version",
            "otel.endpoint: is about traces over OTLP",
        ],
    );
}

#[test]
fn lists_of_tables_are_checked_entry_by_entry() {
    check_problems(
        "[[channel]]\nkind = 'room'\nbroadcast = ['phx_join']\n[[channel]]\npattern = 'a*b'\nkind = 'rom'\n\
         [[feed]]\nkind = 'replay'\nspeed = 'fast'\n[[feed]]\nkind = 'binance'\nurl = 'http://x'\nsymbols = {a = 'b c'}\n\
         [[feed]]\nkind = 'simulated'\n[[feed]]\nkind = 'simulated'\nsede = 1\n\
         [[auth.key]]\nsecret = 'short'\nscopes = ['root']\nexpires = 2030-01-01\n",
        &[],
        &[],
        &[
            "auth.key[0].secret: has 5 bytes, a secret here has at least 16; make one with: openssl rand -hex 32",
            "auth.key[0].scopes: a list holds \"root\", expected \"publish\" or \"admin\"",
            "auth.key[0].expires: 2030-01-01 is not a time with its zone, for example 2027-01-01T00:00:00Z",
            "auth.key[0].name: is missing",
            "channel[0].pattern: is missing",
            "channel[0].broadcast: a list holds \"phx_join\"",
            "channel[1].pattern: \"a*b\" has a * before its end",
            "channel[1].kind: \"rom\" is neither \"ticker\" nor \"room\"",
            "feed[0].path: is missing",
            "feed[0].speed: \"fast\" is no speed",
            "feed[1].url: \"http://x\" is not the URL of a WebSocket",
            "feed[1].symbols: a = \"b c\": ",
            "feed[3].name: \"simulated\" names an earlier [[feed]]",
            "feed[3].sede: unknown key; did you mean feed[3].seed?",
        ],
    );
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources { file: Some(PathBuf::from("no/such.toml")), ..Sources::default() };
    let message = Config::load(sources).expect_err("there is none").to_string();
    assert_eq!(message, "cannot read no/such.toml: there is no such file; check the path");
}

#[test]
fn names_that_are_not_ours_are_ignored_and_near_misses_told() {
    let env = [
        ("TICKWIRE_PORT_4000_TCP_ADDR", "10.0.0.1"),
        ("TICKWIRE_SERVICE_HOST", "10.0.0.1"),
        ("TICKWIRE_PORT", "tcp://10.0.0.1:4000"),
        ("TICKWIRE_DATA", "/data"),
        ("TICKWIRE_LISTEN_HTTP", "0.0.0.0:4000"),
    ];
    let config = load("", &env, &[]).unwrap();
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.contains("TICKWIRE_LISTEN_HTTP is no setting"), "{warning}");
}

#[test]
fn insecure_modes_are_named() {
    let config =
        load("auth = {publish = 'open', anonymous.write = true}\nlisten.admin = '0.0.0.0:4040'\n", &[], &[]).unwrap();
    let text = config.warnings.join("\n");
    for part in ["auth.publish = \"open\"", "auth.anonymous.write = true", "scope \"admin\""] {
        assert!(text.contains(part), "{text}");
    }
    let config = load("listen.http = '0.0.0.0:4000'\n", &[], &[]).unwrap();
    assert!(config.warnings[0].contains("nobody can publish"), "{:?}", config.warnings);
}

#[test]
fn secrets_show_nowhere() {
    let text = "[auth.jwt]\nhs256_secret = 'topsecret-topsecret-topsecret-topsecret'\n\
                [[auth.key]]\nname = 'a'\nsecret = 'topsecret-key-of-a'\nscopes = ['publish']\n";
    let config = load(text, &[("TICKWIRE_CLUSTER__SECRET", "topsecret-topsecret-topsecret-cluster")], &[]).unwrap();
    for shown in [format!("{config:?}"), config.to_toml(), config.to_json().to_string()] {
        assert!(!shown.contains("topsecret"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
    for wrong in ["topsecret", "[\"topsecret\"]"] {
        let problems = load("", &[("TICKWIRE_CLUSTER__SECRET", wrong)], &[]).expect_err("too short, or no text");
        assert!(!problems.join("").contains("topsecret"), "{problems:?}");
    }
}

/// What `config print` shows is what is in force: read back, it makes the same configuration.
#[test]
fn the_rendering_can_be_read_back() {
    let text = "node.zone = 'a \"quoted\" zone'\nmarket.listed = ['A', 'B']\nmarket.symbols = 'listed'\n\
                [[feed]]\nkind = 'replay'\npath = ['a', 'b']\nspeed = 'max'\nsymbols = {'x y' = 'X'}\ncsv_start = '09:05'\n\
                [[feed]]\nkind = 'simulated'\nrate = 1.5\n[[feed]]\nkind = 'binance'\nsilence = '7s'\n";
    for text in ["", text] {
        let config = load(text, &[], &["limits.connections=5"]).unwrap();
        let rendered = config.to_toml();
        let again = load(&rendered, &[], &[]).unwrap_or_else(|problems| panic!("{problems:#?}\n{rendered}"));
        assert_eq!(values(&again), values(&config), "{rendered}");
    }
}

/// The secret is masked, and all that is amiss with what is printed is that it is not there.
#[test]
fn the_end_of_a_key_can_be_read_back() {
    let key = "auth.key = [{name = 'a', secret = '0123456789abcdef', expires = 2027-01-01T01:00:00+01:00}]";
    let rendered = load(key, &[], &[]).unwrap().to_toml();
    assert!(rendered.contains("expires = 2027-01-01T00:00:00Z"), "{rendered}");
    let problems = load(&rendered, &[], &[]).unwrap_err();
    assert!(problems.len() == 1 && problems[0].contains("secret"), "{problems:?}");
    let late = key.replace("2027-01-01T01:00:00+01:00", "'9999-12-31T23:59:59-01:00'");
    assert!(load(&late, &[], &[]).is_err(), "the year 10000");
}

/// What stands between its neighbours in a table of the file but was not set comes from nowhere else than the defaults.
#[test]
fn what_is_not_set_comes_from_the_defaults() {
    let config = load("[cluster]\nname = 'a'\n[[socket]]\npath = '/a'\n", &[], &[]).unwrap();
    let set: Vec<_> =
        config.entries.iter().filter(|entry| entry.origin != Origin::Default).map(|entry| entry.key.as_str()).collect();
    assert_eq!(set, ["cluster.name", "socket[0].path"]);
}

/// A half-written or damaged file has problems, but none of ours.
#[test]
fn no_text_makes_the_reader_panic() {
    let text = default_text();
    for end in (0..text.len()).step_by(97).filter(|end| text.is_char_boundary(*end)) {
        let _ = load(&text[..end], &[], &[]);
    }
    let mut rng = fastrand::Rng::with_seed(5);
    let alphabet: Vec<char> = "[]{}=.,\"'#\n\\ \tabz019-_:*€\0".chars().collect();
    for _ in 0..2_000 {
        let noise: String = (0..rng.usize(0..40)).map(|_| alphabet[rng.usize(0..alphabet.len())]).collect();
        let _ = load(&format!("[socket]\n{noise}"), &[("TICKWIRE_FEED", &noise)], &[&noise]);
    }
}

#[test]
fn the_json_form_carries_types_and_origins() {
    let config = load("limits.connections = 5\n", &[("TICKWIRE_RUNTIME__PIN", "true")], &[]).unwrap();
    let json = config.to_json();
    let find = |key: &str| json.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap().clone();
    let connections = find("limits.connections");
    assert_eq!(
        (&connections["value"], &connections["source"], &connections["line"]),
        (&5.into(), &"file".into(), &1.into())
    );
    let pin = find("runtime.pin");
    assert_eq!((&pin["value"], &pin["variable"]), (&true.into(), &"TICKWIRE_RUNTIME__PIN".into()));
    assert_eq!(find("node.zone")["source"], "default");
    assert!(find("cluster.secret")["value"].is_null());
}

/// Every key that the reader knows stands in the default file, and every key that stands there is known to the reader.
#[test]
fn the_default_file_mentions_every_key() {
    let mut written: Vec<String> = Vec::new();
    let mut section = String::new();
    let mut all_on = String::new();
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    for line in default_text().lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(list) = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            section = format!("{list}[]");
        } else if let Some(table) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = table.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_name(key)) {
            written.push(format!("{section}.{key}"));
        } else {
            continue;
        }
        all_on.push_str(line);
        all_on.push('\n');
    }
    let findings = read_all(&all_on);
    let is_written = |key: &String| {
        // A table or a list is known by its keys.
        let inside = [format!("{key}."), format!("{key}[]")];
        written.iter().any(|name| name == key || inside.iter().any(|inside| name.starts_with(inside)))
    };
    let missing: Vec<_> = findings.known.iter().filter(|key| !is_written(key)).collect();
    assert!(missing.is_empty(), "not in default.toml: {missing:?}");
    let unknown: Vec<_> = findings.problems.iter().filter(|problem| problem.message.contains("unknown key")).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

fn read_all(text: &str) -> super::reader::Findings {
    let mut problems = Vec::new();
    let tree = parse_file("default.toml", text, &mut problems);
    assert_eq!(problems, [], "{text}");
    let reader = Reader::default();
    reader.root(&tree, |root| read::config(root, Vec::new()));
    reader.finish()
}

/// Wrong keys of tokens are found before a node starts, each with its place and cure.
#[test]
fn keys_of_tokens_are_checked() {
    let keys = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
    let text = format!(
        "[auth.jwt]\npem_file = '{0}/rsa.pem'\njwks_file = '{0}/tokens.json'\njwks_url = 'http://id.example/x'\n\
         [[auth.jwt.pem]]\nfile = '{0}/rsa.pub.pem'\nalgorithm = 'ES256'\n[[auth.jwt.pem]]\nfile = '{0}/none.pem'\n\
         [[auth.jwt.pem]]\nalgorithm = 'HS256'\nkid = ''\n[[auth.jwt.pem]]\nfile = '{0}/rsa-1024.pub.pem'\n",
        keys.display()
    );
    let problems = load(&text, &[], &[]).expect_err("all of them are wrong");
    let expected = [
        ("auth.jwt.pem_file", "openssl pkey -in private.pem -pubout"),
        ("auth.jwt.jwks_file", "no JSON Web Key Set"),
        ("auth.jwt.jwks_url", "not https"),
        ("auth.jwt.pem[0].file", "holds a key for RS256, but algorithm is \"ES256\"; name \"RS256\""),
        ("auth.jwt.pem[1].file", "there is no such file"),
        ("auth.jwt.pem[2].file", "is missing"),
        ("auth.jwt.pem[2].algorithm", "\"RS256\", \"ES256\" or \"EdDSA\""),
        ("auth.jwt.pem[2].kid", "is empty"),
        ("auth.jwt.pem[3].file", "1024 bits, expected 2048 to 8192"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for ((key, says), problem) in expected.iter().zip(&problems) {
        assert!(problem.contains(key) && problem.contains(says), "{problem}\n  does not say: {says}");
    }
    let text = format!(
        "[auth.jwt]\npem_file = '{0}/rsa.pub.pem'\njwks_file = '{0}/jwks.json'\njwks_url = 'http://[::1]:1/x'\n\
         [[auth.jwt.pem]]\nfile = '{0}/p256.pub.pem'\nalgorithm = 'ES256'\nkid = 'a'\n",
        keys.display()
    );
    let config = load(&text, &[], &[]).unwrap();
    assert_eq!(config.auth.jwt.pem.len(), 2);
    assert_eq!(load(&config.to_toml(), &[], &[]).unwrap().auth, config.auth, "what is printed can be read back");
}

#[test]
fn api_keys_without_a_name_or_a_scope_of_their_own_are_problems() {
    let text = "[[auth.key]]\nname = 'a'\nsecret = '0123456789abcdef'\nscopes = []\n\
                [[auth.key]]\nname = 'a'\nsecret = '0123456789abcdef'\nscopes = ['admin']\n\
                [[auth.key]]\nname = ' '\nsecret = '0123456789abcdeg'\n";
    let problems = load(text, &[], &[]).expect_err("all of them are wrong");
    let expected = [
        ("auth.key[0].scopes", "is empty"),
        ("auth.key[1].name", "names an earlier key"),
        ("auth.key[1].secret", "secret of an earlier key"),
        ("auth.key[2].name", "is empty"),
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for ((key, says), problem) in expected.iter().zip(&problems) {
        assert!(problem.contains(key) && problem.contains(says), "{problem}\n  does not say: {says}");
    }
}

/// The files under `config/` are what people start from.
#[test]
fn the_example_files_are_valid() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let secrets = tempfile::tempdir().unwrap();
    for name in ["tokens", "pricing-engine", "operations"] {
        std::fs::write(secrets.path().join(format!("tickwire-{name}")), format!("{name:_<40}\n")).unwrap();
    }
    let mut seen = 0;
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = text.replace("/run/secrets", secrets.path().to_str().unwrap());
        let config = load(&text, &[], &[]).unwrap_or_else(|problems| panic!("{}: {problems:#?}", path.display()));
        let insecure = config.warnings.iter().any(|warning| !warning.contains("anonymous.write"));
        assert!(!insecure, "{}: {:?}", path.display(), config.warnings);
        seen += 1;
    }
    assert!(seen >= 3, "{seen} files");
}

/// `docs/codes.md` explains every code that closes, refuses and rejects.
#[test]
fn every_code_is_documented() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/codes.md");
    let page = std::fs::read_to_string(path).unwrap();
    let closes = tickwire_channels::CloseReason::ALL.iter().map(|reason| reason.as_str());
    let auth = crate::auth::AuthError::CODES.iter().copied();
    let missing: Vec<_> = closes.chain(auth).filter(|code| !page.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "not in docs/codes.md: {missing:?}");
}
