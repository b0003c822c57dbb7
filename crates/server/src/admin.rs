//! The admin port: health, metrics, and what an operator looks at and does.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    http::{Method, StatusCode, header, request::Parts},
    middleware::{Next, from_fn},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use crate::{
    app::Node,
    config,
    http::problem::{self, Problem},
    lifecycle::{Check, TaskCount},
    telemetry,
};

/// Everything that the admin port answers.
pub(crate) fn router(node: &Arc<Node>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/startupz", get(startup))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/cluster", get(cluster))
        .route("/debug/memory", get(memory))
        .route("/debug/tasks", get(tasks))
        .route("/drain", post(drain))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(from_fn(no_pages))
        .with_state(Arc::clone(node))
}

/// A browser on the operator's machine reaches this port on loopback too: no page but our own may ask anything of it.
async fn no_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let foreign = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if foreign || (headers.contains_key(header::ORIGIN) && request.method() != Method::GET) {
        return Problem::forbidden("origin_not_allowed", "Web pages may not use the admin port.").into_response();
    }
    next.run(request).await
}

/// Whoever may change and debug the node: everybody where the port is on loopback, else who shows a key with the scope `admin`.
struct Operator;

impl FromRequestParts<Arc<Node>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Problem> {
        if !node.live().config.listen.admin.ip().is_loopback() {
            node.live().auth.identify_request(&parts.headers).await?.may_administer()?;
        }
        Ok(Self)
    }
}

async fn index(State(node): State<Arc<Node>>) -> Html<String> {
    const LINKS: [(&str, &str); 7] = [
        ("/readyz?verbose", "whether the node should get traffic, check by check"),
        ("/livez", "whether the process works"),
        ("/startupz", "whether the node has started"),
        ("/metrics", "for Prometheus"),
        ("/cluster", "this node and its cluster"),
        ("/debug/memory", "where memory goes"),
        ("/debug/tasks", "what runs"),
    ];
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"><title>Tickwire: {0}</title>\
         <style>body{{font:16px/1.6 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}</style>\
         <h1>{0}</h1><p>Tickwire {1}, {2}, {3} sockets, {4} joins, {5} symbols.</p><ul>",
        escaped(&node.id.name),
        env!("CARGO_PKG_VERSION"),
        if is_ready(&node.checks()) { "ready" } else { "not ready" },
        node.workers.connections(),
        node.workers.joins(),
        node.market.symbols(),
    );
    for (path, what) in LINKS {
        let _ = write!(out, "<li><a href=\"{path}\">{path}</a> {what}");
    }
    out.push_str("<li>POST /drain ends the node in good order</ul></html>");
    Html(out)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Never depends on peers, or on anything that a restart would not cure.
async fn alive(State(node): State<Arc<Node>>) -> Response {
    checked(
        &[Check::new("workers", (!node.workers.is_healthy()).then(|| "a socket worker has ended".to_owned()))],
        false,
    )
}

async fn startup(State(node): State<Arc<Node>>) -> Response {
    checked(&[Check::new("startup", (!node.health.is_started()).then(|| "still starting".to_owned()))], false)
}

async fn ready(State(node): State<Arc<Node>>, request: Request) -> Response {
    let verbose = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")));
    checked(&node.checks(), verbose)
}

fn is_ready(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.problem.is_none())
}

/// 200 or 503; what is wrong is always said, what is well if it is asked for.
fn checked(checks: &[Check], verbose: bool) -> Response {
    let well = is_ready(checks);
    let mut out = String::new();
    for Check { name, problem, note } in checks {
        match (problem, note) {
            (Some(problem), _) => drop(writeln!(out, "[-] {name}: {problem}")),
            (None, Some(note)) if verbose => drop(writeln!(out, "[+] {name} ok, but {note}")),
            (None, None) if verbose => drop(writeln!(out, "[+] {name} ok")),
            (None, _) => {}
        }
    }
    out.push_str(if well { "ok\n" } else { "not ok\n" });
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], out)
        .into_response()
}

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    crate::metrics::sample(&node);
    let mut out = telemetry::recorder().render();
    node.workers.lag().write_prometheus(&mut out);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], out)
        .into_response()
}

async fn cluster(State(node): State<Arc<Node>>) -> Response {
    let state = if node.health.is_draining() { "draining" } else { "alive" };
    let live = node.live();
    let zone = &live.config.node.zone;
    let feeds: Vec<_> = node
        .feeds
        .status()
        .iter()
        .map(|feed| {
            json!({
                "name": &*feed.name,
                "kind": feed.kind,
                "state": feed.state.name(),
                "restarts": feed.restarts,
                "reconnects": feed.reconnects,
                "last_error": feed.last_error,
            })
        })
        .collect();
    let answer = json!({
        "cluster": live.config.cluster.name,
        "node": &*node.id.name,
        "version": env!("CARGO_PKG_VERSION"),
        "expected": live.config.cluster.expect,
        "seen": 1,
        "members": [{
            "node": &*node.id.name,
            "zone": zone,
            "state": state,
            "incarnation": node.id.incarnation,
            "uptime_s": node.started.elapsed().as_secs(),
            "connections": node.workers.connections(),
            "joins": node.workers.joins(),
            "symbols_owned": node.market.symbols(),
        }],
        "links": [],
        "feeds": feeds,
    });
    no_store(answer)
}

async fn memory(State(node): State<Arc<Node>>, _: Operator) -> Response {
    let resident = telemetry::resident_bytes();
    let connections = node.workers.connections();
    no_store(json!({
        "resident_bytes": resident,
        "connections": connections,
        "joins": node.workers.joins(),
        "symbols": node.market.symbols(),
        "open_connections_max": node.door.open_max(),
        "open_connections": node.door.open(),
    }))
}

async fn tasks(State(node): State<Arc<Node>>, _: Operator) -> Response {
    let runtime = tokio::runtime::Handle::current().metrics();
    let tasks: serde_json::Map<_, _> = node
        .inner
        .table()
        .into_iter()
        .map(|(name, count)| {
            let TaskCount { running, started, panicked } = count;
            (name.to_owned(), json!({"running": running, "started": started, "panicked": panicked}))
        })
        .collect();
    no_store(json!({
        "runtime": {"workers": runtime.num_workers(), "alive_tasks": runtime.num_alive_tasks(), "queued": runtime.global_queue_depth()},
        "tasks": tasks,
    }))
}

async fn drain(State(node): State<Arc<Node>>, _: Operator) -> Response {
    let config::DrainConfig { delay, spread, deadline } = node.live().config.drain;
    tracing::info!("drain requested over the admin port");
    node.stop.drain();
    let answer = json!({
        "draining": true,
        "delay_s": delay.as_secs_f64(),
        "spread_s": spread.as_secs_f64(),
        "deadline_s": deadline.as_secs_f64(),
    });
    (StatusCode::ACCEPTED, no_store(answer)).into_response()
}

fn no_store(answer: serde_json::Value) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response()
}
