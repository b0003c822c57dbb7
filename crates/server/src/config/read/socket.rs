//! `[[socket]]`: mounts of the Channels protocol.

use tickwire_channels::handshake::{OriginRule, Origins};

use super::{DAY, millis, secs};
use crate::config::layers::{Item, Node};
use crate::config::reader::Section;
use crate::config::settings::SocketMount;
use crate::config::values::{Setting, Size};

pub(super) fn sockets(root: &Section<'_>) -> Vec<SocketMount> {
    let mut paths: Vec<String> = Vec::new();
    let entries = root.sections("socket", |s| {
        let mount = socket(s);
        if s.is_sound("path") && paths.contains(&mount.path) {
            s.problem("path", format!("{} is the path of an earlier [[socket]], too", mount.path.show()));
        }
        paths.push(mount.path.clone());
        mount
    });
    match entries {
        Some(entries) if !entries.is_empty() => entries,
        Some(_) => {
            root.problem("socket", "is empty; a server has at least one, or remove the key for the one at \"/socket\"");
            Vec::new()
        }
        None => vec![root.section_of_default("socket[0]", socket)],
    }
}

fn socket(s: &Section<'_>) -> SocketMount {
    let read_path = |node: &Node| match String::read(node)? {
        path if ["v1", "assets"].contains(&path.trim_start_matches('/').split('/').next().unwrap_or_default()) => {
            Err("belongs to the HTTP API or the page; mount sockets elsewhere, for example \"/socket\"".to_owned())
        }
        path if path.len() > 1
            && path.starts_with('/')
            && !path.ends_with('/')
            && !path.contains("//")
            && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b)) =>
        {
            Ok(path)
        }
        _ => Err("is not a path, for example \"/socket\": it begins with a slash and ends without one".to_owned()),
    };
    let frame_max = Size(64 << 20);
    let max_frame = s.between("max_frame", Size(1 << 20), Size(1 << 10), frame_max).0;
    // As much as Phoenix's server puts together, but no less than a frame may have where frames are small.
    let max_message = Size(max_frame.clamp(1 << 20, 8_000_000));
    let subprotocols = s.value_by("subprotocols", Vec::new(), read_subprotocols, Vec::show);
    let mount = SocketMount {
        path: s.value_by("path", "/socket".to_owned(), read_path, String::show),
        websocket: s.value("websocket", true),
        longpoll: s.value("longpoll", true),
        longpoll_window: s.between("longpoll_window", secs(10), millis(100), secs(300)),
        longpoll_token_max_age: s.between("longpoll_token_max_age", 14 * DAY, secs(1), 365 * DAY),
        idle_timeout: s.between("idle_timeout", secs(90), millis(100), DAY),
        max_frame,
        max_message: s.between("max_message", max_message, Size(1 << 10), frame_max).0,
        max_channels: s.between("max_channels", 1_000, 1, 1_000_000),
        origins: s.value("origins", Origins::SameHost),
        compress: s.value("compress", false),
        // It adds `phoenix` to what is taken, which who lists subprotocols of their own has to ask for.
        auth_token: s.value("auth_token", subprotocols.is_empty()),
        subprotocols,
    };
    if !mount.websocket && !mount.longpoll {
        s.problem(
            "websocket",
            "and longpoll are both false: nobody can connect; set one to true or remove the [[socket]]",
        );
    }
    mount
}

/// Names of subprotocols are tokens of HTTP (RFC 9110 §5.6.2).
fn read_subprotocols(node: &Node) -> Result<Vec<String>, String> {
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let names = Vec::<String>::read(node)?;
    match names.iter().find(|name| !is_token(name)) {
        Some(name) => {
            Err(format!("holds {name:?}, which is no subprotocol: letters, digits and -._~, for example \"chat.v2\""))
        }
        None => Ok(names),
    }
}

impl Setting for Origins {
    fn read(node: &Node) -> Result<Self, String> {
        match &node.item {
            Item::Text(text) | Item::Raw(text) if text == "same-host" => return Ok(Self::SameHost),
            Item::Text(text) | Item::Raw(text) if text == "any" => return Ok(Self::Any),
            Item::Text(_) => return Err("is neither \"same-host\", nor \"any\", nor a list of origins".to_owned()),
            _ => {}
        }
        let rule = |text: String| {
            text.parse::<OriginRule>().map_err(|error| format!("holds an entry that cannot be used: {error}"))
        };
        let rules = Vec::<String>::read(node)?.into_iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            Err("lets no page in; name origins, or use \"same-host\"".to_owned())
        } else {
            Ok(Self::List(rules))
        }
    }

    fn show(&self) -> String {
        match self {
            Self::SameHost => "\"same-host\"".to_owned(),
            Self::Any => "\"any\"".to_owned(),
            Self::List(rules) => rules.iter().map(ToString::to_string).collect::<Vec<_>>().show(),
        }
    }
}
