//! Architecture that is not tested is a wish: the arrows between crates, and rules that no compiler knows.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifest(path: &Path) -> toml::Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The libraries that a crate uses outside its tests.
fn dependencies(krate: &str) -> BTreeSet<String> {
    let manifest = manifest(&root().join("crates").join(krate).join("Cargo.toml"));
    manifest["dependencies"].as_table().unwrap().keys().cloned().collect()
}

fn crates() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// All files below a folder whose name ends so.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !matches!(name.as_str(), "target" | "node_modules" | "generated" | "dist") {
                open.push(path);
            } else if name.ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn rust_sources() -> impl Iterator<Item = (PathBuf, String)> {
    let root = root();
    let folders = ["crates", "tests", "fuzz"].map(|folder| files(&root.join(folder), ".rs"));
    folders.into_iter().flatten().map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
}

/// The arrows of ARCHITECTURE.md. A crate that is not listed here has none: a new room says first what it may know.
const ARROWS: [(&str, &[&str]); 10] = [
    ("proto", &[]),
    ("faults", &[]),
    ("pubsub", &["proto"]),
    ("market", &["proto", "pubsub", "faults"]),
    ("channels", &["pubsub", "faults"]),
    ("demo", &["channels", "pubsub"]),
    ("client", &["channels", "pubsub"]),
    ("server", &["proto", "pubsub", "market", "channels", "demo", "faults"]),
    ("bench", &["client", "channels", "proto", "pubsub"]),
    ("cli", &["server", "client", "bench", "market", "proto", "pubsub"]),
];

#[test]
fn crates_know_only_those_they_may() {
    for krate in crates() {
        let (_, allowed) =
            ARROWS.iter().find(|(name, _)| *name == krate).unwrap_or_else(|| panic!("{krate}: no arrows"));
        for dependency in dependencies(&krate) {
            if let Some(other) = dependency.strip_prefix("tickwire-") {
                assert!(allowed.contains(&other), "{krate} must not depend on {other}");
            }
        }
    }
}

/// What ships must have no way to crash it: no dependency but those of tests turns faults on, and no crate has a feature that would.
#[test]
fn faults_are_for_tests_alone() {
    let mut manifests = files(&root().join("crates"), "Cargo.toml");
    manifests.push(root().join("tests/Cargo.toml"));
    manifests.push(root().join("fuzz/Cargo.toml"));
    for path in manifests {
        let manifest = manifest(&path);
        for table in ["dependencies", "build-dependencies"] {
            let faults = manifest.get(table).and_then(|table| table.get("tickwire-faults"));
            let features = faults.and_then(|faults| faults.get("features"));
            assert!(features.is_none(), "{}: faults in [{table}]", path.display());
        }
        let features = manifest.get("features").map(ToString::to_string).unwrap_or_default();
        let own = path.parent().unwrap().ends_with("faults");
        assert!(own || !features.contains("faults"), "{}: a feature turns faults on", path.display());
        assert!(!features.contains("default"), "{}: what is on by default is on in what ships", path.display());
    }
    let shared = manifest(&root().join("Cargo.toml"));
    assert!(shared["workspace"]["dependencies"]["tickwire-faults"].get("features").is_none());
}

/// A framework that leaks into a second crate is a framework that can never be replaced.
#[test]
fn libraries_stay_in_their_rooms() {
    let rooms: [(&str, &[&str]); 8] = [
        ("axum", &["server"]),
        ("mio", &["channels", "bench", "server"]),
        ("clap", &["cli"]),
        ("rustls", &["server", "channels", "market", "client", "cli"]),
        ("tokio-rustls", &["server"]),
        ("tonic", &["proto", "server", "bench", "cli"]),
        ("tonic-types", &["server"]),
        ("tracing-subscriber", &["server", "cli"]),
    ];
    for krate in crates() {
        let used = dependencies(&krate);
        for (library, allowed) in rooms {
            assert!(!used.contains(library) || allowed.contains(&krate.as_str()), "{krate} must not use {library}");
        }
    }
}

#[test]
fn banned_libraries_are_not_in_the_graph() {
    let deny = manifest(&root().join("deny.toml"));
    let lock = manifest(&root().join("Cargo.lock"));
    let packages: BTreeSet<_> =
        lock["package"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect();
    for ban in deny["bans"]["deny"].as_array().unwrap() {
        let name = ban["crate"].as_str().unwrap();
        assert!(!packages.contains(name), "{name} is banned: {}", ban["reason"]);
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in rust_sources() {
        let first = text.lines().next().unwrap_or_default();
        let tests = path.file_name().is_some_and(|name| name == "tests.rs");
        assert!(tests || first.starts_with("//!") || first.starts_with("#!"), "{}: no //! on top", path.display());
    }
}

/// What is not done stands in an issue, where somebody looks.
#[test]
fn no_promises_in_comments() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (path, text) in rust_sources() {
        for word in words {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

/// A generated type that becomes a domain type has silently become a protocol.
#[test]
fn protobuf_types_stay_at_the_edge() {
    let edge = |path: &Path| {
        let text = path.to_string_lossy();
        let part = |name: &str| text.contains(&format!("/{name}/"));
        text.ends_with("wire.rs")
            || text.contains("grpc")
            || text.contains("protobuf")
            || part("bench")
            || part("cli")
            || part("tests")
            || part("fuzz")
    };
    for (path, text) in rust_sources() {
        assert!(
            edge(&path) || !text.contains("tickwire_proto::"),
            "{}: protobuf types outside wire.rs",
            path.display()
        );
    }
}

/// Dashboards are written from docs/metrics.md.
#[test]
fn the_list_of_metrics_is_complete_and_true() {
    let documented = names(&fs::read_to_string(root().join("docs/metrics.md")).unwrap());
    let mut emitted = BTreeSet::new();
    for krate in ["pubsub", "market", "channels", "server"] {
        for path in files(&root().join("crates").join(krate).join("src"), ".rs") {
            let text = fs::read_to_string(path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for literal in code.split('"').skip(1).step_by(2) {
                let name = literal.trim();
                if is_metric(name) {
                    emitted.insert(name.to_owned());
                }
            }
        }
    }
    let missing: Vec<_> = emitted.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&emitted).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not in docs/metrics.md: {missing:?}; there, but nowhere emitted: {stale:?}"
    );
}

fn is_metric(name: &str) -> bool {
    name.starts_with("tickwire_")
        && !["tickwire_server", "tickwire_market", "tickwire_channels", "tickwire_pubsub"].contains(&name)
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words.filter(|word| is_metric(word)).map(str::to_owned).collect()
}

/// Only what a reader of this repository can follow belongs in it.
#[test]
fn no_paths_of_one_machine() {
    let root = root();
    let places = ["crates", "tests", "fuzz", "docs", "deploy", "proto", "config"].map(|folder| root.join(folder));
    for suffix in [".rs", ".md", ".toml", ".ts", ".mjs", ".proto", ".json"] {
        for path in places.iter().flat_map(|folder| files(folder, suffix)) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            for machine in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/ba", "sh_jobs")] {
                assert!(!text.contains(machine), "{}: {machine}", path.display());
            }
        }
    }
}
