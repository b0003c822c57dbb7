//! Keys that come from elsewhere and change: files, and a server that is up, down, slow or wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asymmetric::{file, minted, pem_config, text};
use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the signer's server answers, and how often it was asked.
struct Signer {
    answer: Mutex<Answer>,
    asked: AtomicUsize,
}

#[derive(Clone)]
enum Answer {
    Document(u16, String),
    Redirect(String),
    Silence,
    Endless,
}

async fn respond(State(signer): State<Arc<Signer>>) -> Response {
    signer.asked.fetch_add(1, Ordering::SeqCst);
    let answer = signer.answer.lock().clone();
    match answer {
        Answer::Document(status, text) => Response::builder().status(status).body(Body::from(text)).unwrap(),
        Answer::Redirect(to) => Response::builder().status(302).header("location", to).body(Body::empty()).unwrap(),
        Answer::Silence => std::future::pending().await,
        Answer::Endless => {
            let chunk = || Ok::<_, std::convert::Infallible>(vec![b' '; 64 << 10]);
            Response::new(Body::from_stream(futures_util::stream::repeat_with(chunk)))
        }
    }
}

struct Rig {
    signer: Arc<Signer>,
    auth: Arc<Auth>,
    cancel: CancellationToken,
    tasks: TaskTracker,
    config: AuthConfig,
}

impl Rig {
    async fn start(answer: Answer, cooldown: Duration) -> Self {
        let signer = Arc::new(Signer { answer: Mutex::new(answer), asked: AtomicUsize::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(respond).with_state(Arc::clone(&signer));
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let ended = cancel.clone();
        tasks.spawn(async move {
            let served = axum::serve(listener, router);
            let _ = ended.run_until_cancelled(async { served.await }).await;
        });
        let mut config = Config::default().auth;
        config.jwt.jwks_url = Some(url);
        config.jwt.jwks_cooldown = cooldown;
        let auth = Arc::new(Auth::new(&config));
        let rig = Self { signer, auth, cancel, tasks, config };
        rig.keep(&rig.auth);
        rig
    }

    fn keep(&self, auth: &Arc<Auth>) {
        let auth = Arc::clone(auth);
        self.tasks.spawn(keep_keys(move || Arc::clone(&auth), self.cancel.clone()));
    }

    fn answers(&self, answer: Answer) {
        *self.signer.answer.lock() = answer;
    }

    fn asked(&self) -> usize {
        self.signer.asked.load(Ordering::SeqCst)
    }

    async fn code(&self, token: &str) -> &'static str {
        self.auth.identify_bearer(token).await.map_or_else(|error| error.code(), |_| "ok")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A set with one of the keys of `jwks.json`.
fn set(name: &str) -> Answer {
    let all: Value = serde_json::from_str(&text("jwks.json")).unwrap();
    let key = all["keys"].as_array().unwrap().iter().find(|key| key["kid"] == name).unwrap();
    Answer::Document(200, json!({ "keys": [key] }).to_string())
}

/// A token that is good today.
fn token(name: &str) -> String {
    let key = SigningKey::from_pem(text(&format!("{name}.pem")).as_bytes()).unwrap();
    let grant = Grant { user: "ada".to_owned(), allow: vec![], publish: None, ttl: Duration::from_secs(600) };
    mint_with(super::Signer::Key { key: &key, kid: Some(name) }, &Config::default().auth.jwt, &grant, unix_now())
        .unwrap()
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_not_too_often() {
    let rig = Rig::start(set("rsa"), Duration::from_millis(1)).await;
    eventually("the set is read", async || rig.code(&token("rsa")).await == "ok").await;
    assert_eq!(rig.asked(), 1);
    rig.answers(set("p256"));
    // Many at once, one reading.
    let token = token("p256");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let codes = futures_util::future::join_all((0..50).map(|_| rig.code(&token))).await;
    assert!(codes.iter().all(|code| *code == "ok"), "{codes:?}");
    assert_eq!(rig.asked(), 2);
    assert_eq!(rig.code(&super::sources::token("rsa")).await, "token_invalid", "it is out of the set");
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_a_bounded_rate() {
    let rig = Rig::start(set("rsa"), Duration::from_secs(3600)).await;
    eventually("the set is read", async || rig.code(&token("rsa")).await == "ok").await;
    for _ in 0..100 {
        assert_eq!(rig.code(&token("p256")).await, "token_invalid");
    }
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn until_the_set_is_read_a_token_may_come_again() {
    let rig = Rig::start(Answer::Document(503, String::new()), Duration::from_secs(3600)).await;
    eventually("it was asked", async || rig.asked() >= 1).await;
    assert_eq!(rig.code(&token("rsa")).await, "keys_unavailable");
    assert_eq!(AuthError::KeysUnavailable.status(), StatusCode::SERVICE_UNAVAILABLE);
    eventually("it is noted", async || rig.auth.note().is_some_and(|note| note.contains("503"))).await;
    // What no key of a URL could have signed is refused for good.
    assert_eq!(rig.code(&hs256(&json!({"exp": unix_now() + 60}))).await, "token_invalid");
    rig.answers(set("rsa"));
    eventually("it is asked again", async || rig.code(&token("rsa")).await == "ok").await;
    assert_eq!(rig.auth.note(), None);
}

#[tokio::test]
async fn keys_that_are_known_outlive_a_signer_that_is_down() {
    let rig = Rig::start(set("rsa"), Duration::ZERO).await;
    eventually("the set is read", async || rig.code(&token("rsa")).await == "ok").await;
    let elsewhere = Rig::start(set("p256"), Duration::ZERO).await;
    let redirect = elsewhere.config.jwt.jwks_url.clone().unwrap();
    for (answer, says) in [
        (Answer::Document(500, "oops".to_owned()), "500"),
        (Answer::Document(200, "<html>".to_owned()), "no JSON Web Key Set"),
        (Answer::Document(200, "{\"keys\":[]}".to_owned()), "no key"),
        (Answer::Document(204, String::new()), "204"),
        (Answer::Redirect(redirect), "redirects"),
        (Answer::Endless, "more than"),
    ] {
        rig.answers(answer);
        let before = rig.asked();
        let noted = async || {
            // An unknown key has it read again, as often as the cooldown of zero allows.
            assert_eq!(rig.code(&token("p256")).await, "token_invalid");
            rig.auth.note().is_some_and(|note| note.contains(says))
        };
        eventually(says, noted).await;
        assert!(rig.asked() > before);
        assert_eq!(rig.code(&token("rsa")).await, "ok", "{says}");
    }
}

#[tokio::test]
async fn a_slow_signer_keeps_nobody_waiting_for_long() {
    let rig = Rig::start(Answer::Silence, Duration::ZERO).await;
    eventually("it was asked", async || rig.asked() >= 1).await;
    let began = tokio::time::Instant::now();
    assert_eq!(rig.code(&token("rsa")).await, "keys_unavailable");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_reload_goes_on_with_what_is_known() {
    let rig = Rig::start(set("rsa"), Duration::from_secs(3600)).await;
    eventually("the set is read", async || rig.code(&token("rsa")).await == "ok").await;
    let mut config = rig.config.clone();
    config.jwt.leeway = Duration::from_secs(1);
    let renewed = rig.auth.renewed(&config);
    assert!(renewed.token(&token("rsa"), unix_now()).is_ok());
    config.jwt.jwks_url = Some("https://id.example/jwks.json".to_owned());
    let elsewhere = rig.auth.renewed(&config);
    assert_eq!(elsewhere.token(&token("rsa"), unix_now()).map(drop), Err(AuthError::KeysUnavailable));
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    std::fs::copy(file("rsa.pub.pem"), &path).unwrap();
    let mut config = Config::default().auth;
    config.jwt.pem = vec![crate::config::PemConfig { file: path.clone(), ..pem_config("rsa.pub.pem", None) }];
    let auth = Arc::new(Auth::new(&config));
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    let kept = Arc::clone(&auth);
    tasks.spawn(keep_keys(move || Arc::clone(&kept), cancel.clone()));
    assert!(auth.token(&minted("rsa.pem", None), NOW).is_ok());
    // Half a file, as an editor leaves it for a moment: what was read before stays.
    std::fs::write(&path, &text("p256.pub.pem")[..40]).unwrap();
    auth.keys().read_files();
    assert!(auth.token(&minted("rsa.pem", None), NOW).is_ok());
    std::fs::remove_file(&path).unwrap();
    auth.keys().read_files();
    assert!(auth.token(&minted("rsa.pem", None), NOW).is_ok());
    std::fs::copy(file("p256.pub.pem"), &path).unwrap();
    eventually("it is read again", async || auth.token(&minted("p256.pem", None), NOW).is_ok()).await;
    assert!(auth.token(&minted("rsa.pem", None), NOW).is_err());
    cancel.cancel();
}
