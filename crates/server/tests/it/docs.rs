//! The pages that list names, held against the code that has them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file of a name below a directory.
fn files_named(name: &str, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.file_name().is_some_and(|file| file == "node_modules" || file == "target") {
            continue;
        }
        if path.is_dir() {
            files_named(name, &path, found);
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
}

/// The texts between two marks that look like the name of a metric of ours.
fn names(text: &str, mark: char) -> BTreeSet<String> {
    let is_name = |text: &&str| {
        ["tickwire_", "http_"].iter().any(|prefix| text.starts_with(prefix))
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.split(mark).filter(is_name).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let mut files = Vec::new();
    files_named("metrics.rs", &root().join("crates"), &mut files);
    let code: BTreeSet<_> = files.iter().flat_map(|file| names(&fs::read_to_string(file).unwrap(), '"')).collect();
    let page = names(&fs::read_to_string(root().join("docs/metrics.md")).unwrap(), '`');
    assert!(code.len() > 30, "the code was not found");
    assert_eq!(code.difference(&page).collect::<Vec<_>>(), Vec::<&String>::new(), "missing in docs/metrics.md");
    assert_eq!(
        page.difference(&code).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "in docs/metrics.md, but not in the code"
    );
}

/// The Rust sources of the crates that refuse things, without their tests.
fn sources() -> Vec<String> {
    let mut files = Vec::new();
    for krate in ["market", "channels", "server"] {
        sources_below(&root().join("crates").join(krate).join("src"), &mut files);
    }
    let untested = |text: String| text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    files.iter().map(|file| untested(fs::read_to_string(file).unwrap())).collect()
}

fn sources_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources_below(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// The text literals of a piece of code.
fn literals(code: &str) -> impl Iterator<Item = &str> {
    code.split('"').skip(1).step_by(2)
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b' '))
}

/// The codes that a source hands out: the first literal after what makes a refusal, and those of a function that names codes.
fn codes_of(source: &str) -> BTreeSet<String> {
    const MAKERS: [&str; 14] = [
        "Problem::new(",
        "Problem::bad_request(",
        "Problem::not_found(",
        "Problem::unauthenticated(",
        "Problem::forbidden(",
        "Self::new(StatusCode::",
        "Self::new(Code::",
        "Fault::new(",
        "Fault::quota(",
        "Fault::field(",
        "metrics::refused(",
        "telemetry::refused(",
        "Refusal::reason(",
        "reason_payload(",
    ];
    let mut codes = BTreeSet::new();
    for maker in MAKERS {
        // Fields and keys of the configuration come before the code of a fault that names them.
        let place = usize::from(matches!(maker, "Fault::quota(" | "Fault::field("));
        // Only the reasons of replies have spaces, as Phoenix's own do.
        let reason = maker.starts_with("Refusal") || maker.starts_with("reason");
        for call in source.replace(&format!("fn {maker}"), "").split(maker).skip(1) {
            let arguments = call.split([')', ';']).next().unwrap_or_default();
            let code = literals(arguments).nth(place).filter(|text| is_code(text) && (reason || !text.contains(' ')));
            codes.extend(code.map(str::to_owned));
        }
    }
    for (name, closing) in [("fn code(", "\n    }"), ("fn as_str(self) -> &'static str {", "\n    }")] {
        let refusals = source.contains("CloseReason") || source.contains("Ended") || name == "fn code(";
        for function in source.split(name).skip(1).filter(|_| refusals) {
            let body = function.split_once(closing).map_or(function, |(body, _)| body);
            codes.extend(literals(body).filter(|text| is_code(text)).map(str::to_owned));
        }
    }
    codes
}

/// Clients decide by codes what to do, and operators look them up.
#[test]
fn every_code_is_documented_and_no_other() {
    let page = fs::read_to_string(root().join("docs/codes.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let documented: BTreeSet<_> = cells
        .flat_map(|cell| cell.split('`'))
        .filter(|text| is_code(text) && *text != ", ")
        .map(str::to_owned)
        .collect();
    let sources = sources();
    let handed_out: BTreeSet<_> = sources.iter().flat_map(|source| codes_of(source)).collect();
    assert!(handed_out.len() > 60, "the code was not found: {handed_out:?}");
    let missing: Vec<_> = handed_out.difference(&documented).collect();
    assert_eq!(missing, Vec::<&String>::new(), "missing in docs/codes.md");
    let known = |code: &&String| sources.iter().any(|source| literals(source).any(|text| text == code.as_str()));
    let stale: Vec<_> = documented.iter().filter(|code| !known(code)).collect();
    assert_eq!(stale, Vec::<&String>::new(), "in docs/codes.md, but not in the code");
}
