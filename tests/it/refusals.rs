//! Every refusal can be looked up: by its code in the log and by a counter.

use serde_json::json;
use tickwire_tests::{
    PUBLISH_KEY, Process, eventually,
    socket::{End, Socket},
};

#[tokio::test]
async fn limits_say_in_the_log_whom_they_refuse_and_count_it() {
    let mount =
        r#"socket=[{path="/socket", max_channels=1, max_frame="1KiB", max_message="1KiB", longpoll_window="1s"}]"#;
    let settings = [mount, "limits.messages_per_second=20", "limits.body_bytes=1KiB", "limits.header_timeout=300ms"];
    let server = Process::start(&settings).await;

    let mut greedy = Socket::open(&server).await;
    greedy.join("ticker:A", &json!({})).await.unwrap();
    assert_eq!(greedy.join("ticker:B", &json!({})).await.unwrap_err(), json!({"reason": "too many channels joined"}));
    for _ in 0..100 {
        greedy.send(None, "phoenix", "heartbeat", &json!({})).await;
    }
    let end = loop {
        if let Err(end) = greedy.next().await {
            break end;
        }
    };
    assert_eq!(end, End::Closed(1008, "message_rate".to_owned()));

    let mut talkative = Socket::open(&server).await;
    talkative.send(None, "phoenix", "heartbeat", &json!("x".repeat(2_000))).await;
    assert_eq!(talkative.next().await.unwrap_err(), End::Closed(1009, "frame_too_big".to_owned()));

    let post = |origin: &str, body: usize| {
        let request = server.client.post(server.url("/v1/quotes")).bearer_auth(PUBLISH_KEY).header("origin", origin);
        request.header("content-type", "application/json").body("1".repeat(body)).send()
    };
    let own = format!("http://{}", server.http);
    assert_eq!(post(&own, 2_000).await.unwrap().status(), 413);
    assert_eq!(post("https://evil.example", 1).await.unwrap().status(), 403);
    let dawdling = tokio::net::TcpStream::connect(server.http).await.unwrap();

    for (code, metric) in [
        ("too_many_channels", "tickwire_messages_refused_total"),
        ("message_rate", "tickwire_disconnects_total"),
        ("frame_too_big", "tickwire_disconnects_total"),
        ("body_too_large", "tickwire_refused_total"),
        ("origin_not_allowed", "tickwire_refused_total"),
        ("header_timeout", "tickwire_refused_total"),
    ] {
        eventually(&format!("{code} is in the log and counted"), async || {
            let counted = server.metric(metric, &format!("reason=\"{code}\"")).await;
            (counted >= 1.0 && server.log().contains(&format!("\"code\":\"{code}\""))).then_some(())
        })
        .await;
    }
    assert!(!server.log().contains(PUBLISH_KEY));
    drop(dawdling);
}
