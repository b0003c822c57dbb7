//! Rules for origins and patterns of topics: a line for the rule, one for what it is tried on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tickwire_channels::{
    Pattern,
    handshake::{OriginRule, Origins},
};
use tickwire_server::auth::TopicPattern;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (rule, origin, host) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next());
    if let Ok(text) = std::str::from_utf8(rule) {
        check_rule(text, origin, host);
        check_pattern(text, origin);
    }
    check_same_host(origin, host);
});

fn check_rule(text: &str, origin: &[u8], host: Option<&[u8]>) {
    let Ok(rule) = text.parse::<OriginRule>() else { return };
    let shown = rule.to_string();
    assert_eq!(shown.parse::<OriginRule>().as_ref(), Ok(&rule), "{shown:?} is not what {text:?} says");
    let list = Origins::List(vec![rule]);
    assert!(list.check(None, host).is_ok(), "a client that is no browser has no origin");
    // Case does not matter, and neither does the request's own host.
    let decided = list.check(Some(origin), host).is_ok();
    assert_eq!(list.check(Some(&origin.to_ascii_uppercase()), None).is_ok(), decided);
    if decided {
        let own_host =
            shown.trim_start_matches(|letter| letter != '/').trim_start_matches('/').trim_start_matches("*.");
        let own_host = own_host.split(':').next().unwrap_or_default();
        let seen = String::from_utf8_lossy(origin).to_ascii_lowercase();
        assert!(own_host.starts_with('[') || seen.contains(own_host), "{shown} allows {seen}");
    }
}

fn check_same_host(origin: &[u8], host: Option<&[u8]>) {
    assert!(Origins::Any.check(Some(origin), host).is_ok());
    assert!(Origins::SameHost.check(None, host).is_ok());
    assert!(Origins::SameHost.check(Some(origin), None).is_err(), "without a host nothing is the same");
    match Origins::SameHost.check(Some(origin), host) {
        Ok(()) => {
            let host = host.expect("checked above").to_ascii_lowercase();
            let name_end = host.iter().rposition(|byte| *byte == b']').map_or_else(
                || host.iter().position(|byte| *byte == b':').unwrap_or(host.len()),
                |bracket| bracket + 1,
            );
            assert!(tickwire_fuzz::contains(&origin.to_ascii_lowercase(), &host[..name_end]));
        }
        Err(mismatch) => assert!(mismatch.to_string().contains("expected"), "{mismatch}"),
    }
}

fn check_pattern(text: &str, topic: &[u8]) {
    let Ok(topic) = std::str::from_utf8(topic) else { return };
    if let Ok(right) = text.parse::<TopicPattern>() {
        assert_eq!(right.to_string(), text);
        assert_eq!(right.matches(topic), text.parse::<Pattern>().is_ok_and(|pattern| pattern.matches(topic)));
    } else {
        assert!(text.is_empty() || text.len() > 256 || text.parse::<Pattern>().is_err(), "{text:?}");
    }
    let Ok(pattern) = text.parse::<Pattern>() else {
        assert!(text.contains('*'), "{text:?} is a topic");
        return;
    };
    assert_eq!(pattern.to_string(), text);
    let expected = match text.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => topic == text,
    };
    assert_eq!(pattern.matches(topic), expected);
}
