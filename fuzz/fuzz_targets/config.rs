//! Configuration files: every problem is told with its place, and what is in force reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_server::config::{Config, Origin, Problem};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that a configuration names would be read.
    if ["file", "cert", "pem"].iter().any(|word| text.contains(word)) {
        return;
    }
    // All of a configuration is read each time, defaults too: of what is not even TOML, one in sixteen is enough.
    let few = text.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    if few % 16 != 0 && text.parse::<toml::Table>().is_err() {
        return;
    }
    match Config::parse("fuzz.toml", text) {
        Ok(config) if few % 4 == 0 => check_rendered(&config),
        Ok(_) => {}
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
    let again = match Config::parse("printed.toml", &printed) {
        Ok(again) => again,
        Err(errors) => {
            // A masked secret is not there when it is read back, which is said of the key that has lost it.
            let masked = |problem: &Problem| problem.key.contains("secret");
            assert!(printed.contains("***") && errors.0.iter().all(masked), "{printed}\n{errors}");
            return;
        }
    };
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
