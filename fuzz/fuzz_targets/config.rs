//! Configuration files: every problem is told with its place, and what is in force reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_server::config::{Config, Origin};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that a configuration names would be read.
    if text.contains("file") || text.contains("path") {
        return;
    }
    match Config::parse("fuzz.toml", text) {
        Ok(config) => check_rendered(&config),
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for problem in &errors.0 {
                assert!(!problem.message.is_empty());
                if let Origin::File { line, column, .. } = problem.origin {
                    assert!(line >= 1 && line <= text.matches('\n').count() + 1 && column >= 1, "{problem}");
                }
            }
            assert!(errors.to_string().len() <= 2_000 * errors.0.len() + text.len(), "{errors}");
        }
    }
});

fn check_rendered(config: &Config) {
    let printed = config.to_toml();
    let again = Config::parse("printed.toml", &printed);
    let again = again.unwrap_or_else(|errors| panic!("{printed}\n{errors}"));
    let shown = |config: &Config| -> Vec<_> {
        // A secret is masked, and then it is not there.
        let entries = config.entries.iter().filter(|entry| entry.value.as_deref() != Some("\"***\""));
        entries.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    };
    let (first, second) = (shown(config), shown(&again));
    for entry in &second {
        assert!(first.contains(entry) || entry.1.is_none(), "{entry:?} is not in {printed}");
    }
    assert!(config.to_json().is_array());
}
