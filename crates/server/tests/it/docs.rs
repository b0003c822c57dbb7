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
