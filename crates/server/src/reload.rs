//! SIGHUP: the configuration is read anew, and what can change without a restart does, all at once or not at all.
//!
//! [`plan`] is pure: it says what comes into force, what changes and what has to wait for a restart.

use std::sync::Arc;

use ::metrics::{counter, gauge};
use tickwire_channels::Router;

use crate::{
    app::Node,
    config::{Config, ConfigErrors, Entry, Sources},
    live::Live,
    metrics, settings, telemetry,
};

/// Settings that are built into what runs: sections by their name, single keys in full.
const NEEDS_RESTART: [&str; 11] = [
    "node",
    "listen",
    "cluster",
    "market",
    "runtime",
    "otel",
    "log.format",
    "limits.joins_per_second",
    "limits.outbox_bytes",
    "limits.header_timeout",
    "limits.keep_alive_timeout",
];

/// What a new configuration means to a node that runs.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What comes into force: the new settings, with the old ones where only a restart would change them.
    pub(crate) config: Config,
    /// Changes that come into force, as `key: old -> new`.
    pub(crate) applied: Vec<String>,
    /// Changes that wait for a restart.
    pub(crate) waiting: Vec<String>,
}

/// Compares what is in force with what was read.
pub(crate) fn plan(old: &Config, mut new: Config) -> Plan {
    let (mut applied, mut waiting) = (Vec::new(), Vec::new());
    let entries = merge(&old.entries, &new.entries);
    for (key, before, after) in &entries {
        let change = || format!("{key}: {} -> {}", shown(*before), shown(*after));
        // A key that is not there on one side and unset on the other says the same.
        if before.and_then(|entry| entry.value.as_ref()) == after.and_then(|entry| entry.value.as_ref()) {
            continue;
        }
        if needs_restart(key) { waiting.push(change()) } else { applied.push(change()) }
    }
    // Secrets are masked where they are shown, so that a new one looks like the old one.
    if old.auth != new.auth && !applied.iter().any(|change| change.starts_with("auth")) {
        applied.push("auth: another secret".to_owned());
    }
    let in_force = |(key, before, after): &(String, Option<&Entry>, Option<&Entry>)| {
        let entry = if needs_restart(key) { before } else { after };
        entry.cloned()
    };
    let in_force = entries.iter().filter_map(in_force).collect();
    new.entries = in_force;
    keep_what_runs(old, &mut new);
    Plan { config: new, applied, waiting }
}

fn needs_restart(key: &str) -> bool {
    NEEDS_RESTART
        .iter()
        .any(|prefix| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Every key of either side, in the order of the new one, with both values.
fn merge<'a>(old: &'a [Entry], new: &'a [Entry]) -> Vec<(String, Option<&'a Entry>, Option<&'a Entry>)> {
    fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
        entries.iter().find(|entry| entry.key == key)
    }
    let of_new = new.iter().map(|entry| (entry.key.clone(), find(old, &entry.key), Some(entry)));
    let gone =
        old.iter().filter(|entry| find(new, &entry.key).is_none()).map(|entry| (entry.key.clone(), Some(entry), None));
    of_new.chain(gone).collect()
}

fn shown(entry: Option<&Entry>) -> &str {
    entry.and_then(|entry| entry.value.as_deref()).unwrap_or("unset")
}

/// The settings of [`NEEDS_RESTART`].
fn keep_what_runs(old: &Config, new: &mut Config) {
    new.node = old.node.clone();
    new.listen = old.listen.clone();
    new.cluster = old.cluster.clone();
    new.market = old.market.clone();
    new.delivery = old.delivery.clone();
    new.runtime = old.runtime.clone();
    new.log.format = old.log.format;
    new.limits.joins_per_second = old.limits.joins_per_second;
    new.limits.outbox_bytes = old.limits.outbox_bytes;
    new.limits.header_timeout = old.limits.header_timeout;
    new.limits.keep_alive_timeout = old.limits.keep_alive_timeout;
}

/// Waits for requests to reload, and obeys them, until the node ends.
pub(crate) async fn obey(node: Arc<Node>, sources: Sources) {
    let cancelled = node.inner.cancelled().clone();
    while cancelled.run_until_cancelled(node.stop.reload_requested()).await.is_some() {
        match reload(&node, &sources).await {
            Ok(()) => succeeded(true),
            Err(error) => {
                succeeded(false);
                tracing::error!("the configuration stays as it is, the new one cannot be used:\n{error}");
            }
        }
    }
}

fn succeeded(success: bool) {
    counter!(metrics::RELOADS, "outcome" => if success { "ok" } else { "refused" }).increment(1);
    gauge!(metrics::RELOAD_OK).set(if success { 1.0 } else { 0.0 });
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("channel: {0}")]
    Pattern(#[from] tickwire_channels::BadPattern),
}

/// A new state, ready to be put in force.
struct Prepared {
    live: Live,
    router: Router,
    level_changed: bool,
    applied: Vec<String>,
    waiting: Vec<String>,
}

/// All that can fail, before all that cannot be taken back. Blocks: it reads files.
fn prepare(node: &Node, sources: Sources) -> Result<Prepared, ReloadError> {
    let new = Config::load(sources)?;
    let old = node.live();
    let Plan { config, applied, waiting } = plan(&old.config, new);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let auth = match config.auth == old.config.auth {
        true => Arc::clone(&old.auth),
        false => Arc::new(old.auth.renewed(&node.with_development_key(&config))),
    };
    let level_changed = config.log.level != old.config.log.level;
    let live = Live::new(config, auth);
    let router = live.router(&node.market, &node.rooms)?;
    if let Some(tls) = &node.tls {
        // The files have just been found to be good; should they have changed since, the next look tells.
        let _ = tls.reload();
    }
    Ok(Prepared { live, router, level_changed, applied, waiting })
}

async fn reload(node: &Arc<Node>, sources: &Sources) -> Result<(), ReloadError> {
    let (reader, sources) = (Arc::clone(node), sources.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&reader, sources)).await;
    let prepared = prepared.unwrap_or_else(|crashed| std::panic::resume_unwind(crashed.into_panic()))?;
    let Prepared { live, router, level_changed, applied, waiting } = prepared;
    if level_changed {
        telemetry::set_level(&live.config.log.level);
    }
    node.workers.route(router);
    let feeds = live.config.feeds.clone();
    let limits = &live.config.limits;
    node.door.set(limits.connections_for(settings::open_files()), limits);
    node.replace_live(live);
    node.feeds.replace(&feeds).await;
    report(&applied, &waiting);
    Ok(())
}

fn report(applied: &[String], waiting: &[String]) {
    match applied {
        [] => tracing::info!(
            "the configuration was read again, and nothing that can change while the node runs has changed"
        ),
        _ => tracing::info!(
            changed = applied.join("; "),
            "the configuration was read again; new sockets, joins and requests follow it"
        ),
    }
    if !waiting.is_empty() {
        tracing::warn!(unchanged = waiting.join("; "), "these changes need a restart and are not in force");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(sets: &[&str]) -> Config {
        Config::load(Sources { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Sources::default() })
            .unwrap()
    }

    #[test]
    fn what_can_change_changes_and_the_rest_waits() {
        let old = config(&["listen.http=127.0.0.1:1", "log.level=info", "limits.body_bytes=1MiB"]);
        let new = config(&[
            "listen.http=127.0.0.1:2",
            "log.level=debug",
            "limits.body_bytes=2MiB",
            "limits.outbox_bytes=2MiB",
        ]);
        let plan = plan(&old, new);
        assert_eq!(plan.applied, ["limits.body_bytes: \"1MiB\" -> \"2MiB\"", "log.level: \"info\" -> \"debug\""]);
        assert_eq!(
            plan.waiting,
            ["listen.http: \"127.0.0.1:1\" -> \"127.0.0.1:2\"", "limits.outbox_bytes: \"1MiB\" -> \"2MiB\""]
        );
        assert_eq!(plan.config.listen, old.listen);
        assert_eq!(plan.config.limits.outbox_bytes, old.limits.outbox_bytes);
        assert_eq!((plan.config.limits.body_bytes, plan.config.log.level.as_str()), (2 << 20, "debug"));
    }

    /// A second reload says again what still waits, and a third that takes it back says nothing.
    #[test]
    fn what_waits_is_said_until_it_is_taken_back() {
        let first = config(&["market.ring=100"]);
        let second = plan(&first, config(&["market.ring=200"]));
        let again = plan(&second.config, config(&["market.ring=200"]));
        assert_eq!((again.waiting.len(), again.applied.len()), (1, 0), "{again:?}");
        let back = plan(&again.config, config(&["market.ring=100"]));
        assert!(back.waiting.is_empty() && back.applied.is_empty(), "{back:?}");
    }

    #[test]
    fn a_secret_that_changed_is_said_without_showing_it() {
        let secret = |letter: &str| config(&[&format!("auth.jwt.hs256_secret={}", letter.repeat(32))]);
        let plan = plan(&secret("a"), secret("b"));
        assert_eq!(plan.applied, ["auth: another secret"]);
    }

    /// A secret from a file goes by the name of its file's key; its own key stays unset, and is no news.
    #[test]
    fn a_secret_from_a_file_that_comes_or_goes_is_one_change() {
        let file = std::env::temp_dir().join(format!("tickwire-reload-{}", std::process::id()));
        std::fs::write(&file, "a".repeat(32)).unwrap();
        let with = config(&[&format!("auth.jwt.hs256_secret_file={}", file.display())]);
        std::fs::remove_file(&file).unwrap();
        let without = || config(&[]);
        assert_eq!(plan(&with, without()).applied, ["auth.jwt.hs256_secret_file: \"***\" -> unset"]);
        assert_eq!(plan(&without(), with).applied, ["auth.jwt.hs256_secret_file: unset -> \"***\""]);
    }

    /// A new key is either of a part that a reload replaces, or has to be in the table: there is no third kind.
    #[test]
    fn every_key_either_changes_or_waits() {
        let live = ["auth", "socket[0]", "channel[0]", "channel[1]", "drain", "demo", "limits", "log.level"];
        for Entry { key, .. } in config(&[]).entries {
            let changes = live
                .iter()
                .any(|part| key.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
            assert!(changes || needs_restart(&key), "{key}: a part that a reload replaces, or one for NEEDS_RESTART?");
        }
        for key in NEEDS_RESTART {
            assert!(needs_restart(key) && needs_restart(&format!("{key}.x")) && !needs_restart(&format!("{key}x")));
        }
    }

    /// What is said to wait keeps its value, whichever part of the settings has it.
    #[test]
    fn what_waits_is_not_in_force() {
        let old = config(&[]);
        let changes = [
            "node.zone=b",
            "listen.http=127.0.0.1:2",
            "cluster.name=other",
            "market.ring=7",
            "market.conflate_after=7ms",
            "market.join_deadline=7s",
            "runtime.compute_threads=7",
            "log.format=json",
            "limits.joins_per_second=7",
            "limits.outbox_bytes=7MiB",
            "limits.header_timeout=7s",
            "limits.keep_alive_timeout=7s",
        ];
        let new = config(&changes);
        let differ = |left: &Config, right: &Config| {
            let parts = |config: &Config| {
                let limits = &config.limits;
                [
                    format!("{:?}", config.node),
                    format!("{:?}", config.listen),
                    format!("{:?}", config.cluster),
                    format!("{:?}", config.market),
                    format!("{:?}", config.delivery),
                    format!("{:?}", config.runtime),
                    format!("{:?}", config.log.format),
                    format!(
                        "{:?}",
                        (
                            limits.joins_per_second,
                            limits.outbox_bytes,
                            limits.header_timeout,
                            limits.keep_alive_timeout
                        )
                    ),
                ]
            };
            parts(left).iter().zip(&parts(right)).filter(|(left, right)| left != right).count()
        };
        assert_eq!(differ(&old, &new), 8, "each part has a change");
        let plan = plan(&old, new);
        assert_eq!((plan.waiting.len(), plan.applied.len()), (changes.len(), 0), "{:?}", plan.applied);
        assert_eq!(differ(&old, &plan.config), 0);
    }
}
