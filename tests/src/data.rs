//! The recorded market data, which is not part of this repository: `TICKWIRE_DATA` says where it is.

use std::{env, path::PathBuf};

/// The folder of the recorded data. Without it a test has to return: this says so on its output, where the runner counts it, or fails if
/// `TICKWIRE_REQUIRE_DATA` demands the data.
///
/// # Panics
/// If the data is demanded, or `TICKWIRE_DATA` names no folder.
#[must_use]
pub fn folder(test: &str) -> Option<PathBuf> {
    let Some(folder) = env::var_os("TICKWIRE_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from) else {
        let required = env::var_os("TICKWIRE_REQUIRE_DATA").is_some_and(|value| !value.is_empty() && value != "0");
        assert!(!required, "{test}: TICKWIRE_REQUIRE_DATA is set, but TICKWIRE_DATA is not");
        println!("skipped: {test}: TICKWIRE_DATA names no folder of recorded data");
        return None;
    };
    assert!(folder.is_dir(), "TICKWIRE_DATA={} is not a folder", folder.display());
    Some(folder)
}
