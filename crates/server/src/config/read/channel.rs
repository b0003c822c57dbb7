//! `[[channel]]`: what is behind which topics.

use crate::auth::TopicPattern;
use crate::config::layers::Node;
use crate::config::reader::Section;
use crate::config::settings::{Access, AnonymousRights, ChannelKind, ChannelRule};
use crate::config::values::Setting;

impl Setting for TopicPattern {
    fn read(node: &Node) -> Result<Self, String> {
        String::read(node)?.parse().map_err(|error| format!("{error}"))
    }

    fn show(&self) -> String {
        self.to_string().show()
    }
}

/// Every symbol has its ticker; rooms take what the generators of Phoenix make: `shout` and `new_msg` go to all, `ping` comes back.
fn built_in_channels(rights: AnonymousRights) -> Vec<ChannelRule> {
    let (join, write) = default_access(rights);
    let pattern = |prefix: &str| prefix.parse().expect("a prefix and a star is a pattern");
    let broadcast = vec!["shout".to_owned(), "new_msg".to_owned()];
    let room = ChannelKind::Room { broadcast, echo: vec!["ping".to_owned()], history: 0 };
    vec![
        ChannelRule { pattern: pattern("ticker:*"), kind: ChannelKind::Ticker, join, write: Access::Nobody },
        ChannelRule { pattern: pattern("room:*"), kind: room, join, write },
    ]
}

fn default_access(rights: AnonymousRights) -> (Access, Access) {
    let access = |anyone| if anyone { Access::Anyone } else { Access::Token };
    (access(rights.read), access(rights.write))
}

pub(super) fn channels(root: &Section<'_>, rights: AnonymousRights) -> Vec<ChannelRule> {
    let mut patterns: Vec<TopicPattern> = Vec::new();
    let entries = root.sections("channel", |s| {
        let rule = channel(s, rights)?;
        if patterns.contains(&rule.pattern) {
            s.problem("pattern", format!("{} stands in an earlier [[channel]], which decides", rule.pattern.show()));
        }
        patterns.push(rule.pattern.clone());
        Some(rule)
    });
    match entries {
        Some(entries) => entries.into_iter().flatten().collect(),
        None => {
            let rules = built_in_channels(rights);
            root.record_built_in("channel", &rules, show_channel);
            rules
        }
    }
}

const ACCESS: [(&str, Access); 3] = [("anyone", Access::Anyone), ("token", Access::Token), ("nobody", Access::Nobody)];

fn channel(s: &Section<'_>, rights: AnonymousRights) -> Option<ChannelRule> {
    let pattern = s.option::<TopicPattern>("pattern");
    if !s.has("pattern") {
        s.problem("pattern", "is missing, for example \"room:*\"");
    }
    let kind = s.option_by("kind", String::read, String::show);
    let (join, write) = default_access(rights);
    let join = s.choice("join", join, &ACCESS[..2]);
    let kind = match kind.as_deref() {
        Some("ticker") => {
            return Some(ChannelRule { pattern: pattern?, kind: ChannelKind::Ticker, join, write: Access::Nobody });
        }
        Some("room") => ChannelKind::Room {
            broadcast: events(s, "broadcast"),
            echo: events(s, "echo"),
            history: s.between("history", 0, 0, 1_000),
        },
        Some(later @ ("trades" | "bars" | "book" | "watch")) => {
            s.problem("kind", format!("{later:?} is not available in this version; use \"ticker\" or \"room\""));
            return None;
        }
        Some(other) => {
            s.problem("kind", format!("{other:?} is neither \"ticker\" nor \"room\""));
            return None;
        }
        None => {
            if !s.has("kind") {
                s.problem("kind", "is missing; \"ticker\" or \"room\"");
            }
            return None;
        }
    };
    let write = s.choice("write", write, &ACCESS);
    s.only("presence", false, "presence");
    Some(ChannelRule { pattern: pattern?, kind, join, write })
}

/// Names of client events; those of the protocol itself cannot be given away.
fn events(s: &Section<'_>, key: &str) -> Vec<String> {
    let read = |node: &Node| {
        let names = Vec::<String>::read(node)?;
        match names.iter().find(|name| {
            name.is_empty() || name.starts_with("phx_") || name.starts_with("presence_") || name.len() > 64
        }) {
            Some(wrong) => Err(format!("holds {wrong:?}, which is no name for an event of your own")),
            None => Ok(names),
        }
    };
    s.value_by(key, Vec::new(), read, Vec::show)
}

/// The built-in rules as the file would write them, for `config print`.
fn show_channel(rule: &ChannelRule) -> Vec<(&'static str, String)> {
    let access =
        |access| ACCESS.iter().find(|(_, value)| *value == access).map_or("", |(name, _)| name).to_owned().show();
    let mut shown = vec![("pattern", rule.pattern.show())];
    match &rule.kind {
        ChannelKind::Ticker => shown.extend([("kind", "\"ticker\"".to_owned()), ("join", access(rule.join))]),
        ChannelKind::Room { broadcast, echo, history } => shown.extend([
            ("kind", "\"room\"".to_owned()),
            ("join", access(rule.join)),
            ("broadcast", broadcast.show()),
            ("echo", echo.show()),
            ("history", history.show()),
            ("write", access(rule.write)),
            ("presence", "false".to_owned()),
        ]),
    }
    shown
}
