//! The examples of the documentation do what it says: every block that is marked `sh test` or `js test` runs against a real server.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use tickwire_tests::{Process, binary, soon};
use tokio::{io::AsyncReadExt as _, process::Command};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The marked blocks of all pages, with the page that each is from.
fn examples(language: &str) -> Vec<(String, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    let fence = format!("```{language} test\n");
    let blocks = |page: PathBuf| {
        let text = fs::read_to_string(&page).unwrap();
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let blocks: Vec<_> =
            text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
        blocks.into_iter().map(move |block| (name.clone(), block))
    };
    pages.into_iter().flat_map(blocks).collect()
}

/// A server as the README starts it: a simulated market, no key configured.
async fn server() -> Process {
    Process::start_bare(vec!["feed=[{kind=\"simulated\"}]".to_owned()]).await
}

/// The example as it reads for this server.
fn adapted(example: &str, server: &Process) -> String {
    let binary = binary();
    [
        ("127.0.0.1:4000", server.http.to_string()),
        ("127.0.0.1:4001", server.grpc.to_string()),
        ("127.0.0.1:4040", server.admin.to_string()),
        ("target/release/tickwire", binary.to_str().unwrap().to_owned()),
    ]
    .iter()
    .fold(example.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What a command that may have no end says at first: all of it, if it ends, and then it must have ended well.
async fn first_words(mut command: Command, what: &str) -> String {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut said = Vec::new();
    loop {
        let count = soon(what, output.read_buf(&mut said)).await.unwrap();
        if count == 0 {
            let status = soon(what, child.wait()).await.unwrap();
            assert!(status.success(), "{what}: {status}");
        }
        // Two lines are more than a header.
        let enough = said.iter().filter(|byte| **byte == b'\n').count() >= 2;
        if enough || count == 0 {
            return String::from_utf8(said).unwrap();
        }
    }
}

#[tokio::test]
async fn commands_do_what_the_documentation_says() {
    let examples = examples("sh");
    assert!(examples.len() >= 4, "{examples:?}");
    let server = server().await;
    let quiet = tempfile::tempdir().unwrap();
    fs::write(quiet.path().join(".curlrc"), "silent\nshow-error\n").unwrap();
    for (page, block) in examples {
        let block = adapted(&block, &server).replace("\\\n", " ");
        let (settings, lines): (Vec<_>, Vec<_>) =
            block.lines().filter(|line| !line.trim().is_empty()).partition(|line| line.starts_with("tickwire="));
        for line in lines {
            let what = format!("{page}: {line}");
            let mut command = tickwire_tests::command("bash");
            server.environment(&mut command);
            command.arg("-c").arg(format!("{}\n{line}", settings.join("\n")));
            command
                .env("TICKWIRE_URL", server.url(""))
                .env("KEY", server.development_key())
                .env("ADMIN", server.admin.to_string());
            command.env("CURL_HOME", quiet.path());
            let said = first_words(command, &what).await;
            assert!(!said.is_empty() && !said.contains("\"detail\""), "{what}: {said:?}");
        }
    }
    assert_eq!(server.get("/v1/quotes/ACME").await.1["bid"], "12.30", "the README publishes it");
}

#[tokio::test]
async fn pages_of_ones_own_do_what_the_documentation_says() {
    let modules = root().join("tests/clients/node_modules").canonicalize();
    let Some(modules) = modules.ok().filter(|modules| modules.join("phoenix18").is_dir()) else {
        println!("skipped: pages_of_ones_own_do_what_the_documentation_says: make test-tools installs the clients");
        return;
    };
    let examples = examples("js");
    assert!(examples.len() >= 2, "{examples:?}");
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("node_modules")).unwrap();
    for (name, module) in [("phoenix", "phoenix18"), ("ws", "ws")] {
        symlink(modules.join(module), folder.path().join("node_modules").join(name)).unwrap();
    }
    // What a browser has, and what the reader of the page brings along.
    let browser = "import WebSocket from 'ws'; globalThis.WebSocket = WebSocket; globalThis.show = console.log;\n";
    fs::write(folder.path().join("browser.mjs"), browser).unwrap();
    for (page, block) in examples {
        fs::write(folder.path().join("page.mjs"), adapted(&block, &server)).unwrap();
        let mut command = tickwire_tests::command("node");
        command.current_dir(folder.path()).args(["--import", "./browser.mjs", "page.mjs"]);
        let said = first_words(command, &page).await;
        assert!(said.bytes().any(|byte| byte.is_ascii_digit()), "{page}: prices: {said:?}");
    }
}
