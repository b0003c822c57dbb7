//! The types that settings can have, each with the words for what was expected.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::layers::{Item, Node};
use super::units::{parse_duration, parse_size, show_duration, show_size};

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// Reads it, or says what was expected, to follow the value that was seen: `is not true or false`.
    fn read(node: &Node) -> Result<Self, String>;
    /// Writes it as TOML.
    fn show(&self) -> String;
}

impl Setting for String {
    fn read(node: &Node) -> Result<Self, String> {
        match &node.item {
            Item::Text(text) | Item::Raw(text) => Ok(text.clone()),
            _ => Err("is not a text in quotes".to_owned()),
        }
    }

    fn show(&self) -> String {
        toml::Value::String(self.clone()).to_string()
    }
}

impl Setting for PathBuf {
    fn read(node: &Node) -> Result<Self, String> {
        match String::read(node)? {
            text if text.is_empty() => Err("is not the path of a file".to_owned()),
            text => Ok(Self::from(text)),
        }
    }

    fn show(&self) -> String {
        self.display().to_string().show()
    }
}

impl Setting for bool {
    fn read(node: &Node) -> Result<Self, String> {
        match &node.item {
            Item::Flag(value) => Ok(*value),
            Item::Raw(text) if text == "true" => Ok(true),
            Item::Raw(text) if text == "false" => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A whole number that fits `T`.
fn read_int<T: TryFrom<i64> + Display>(node: &Node) -> Result<T, String> {
    let value = match &node.item {
        Item::Int(value) => Some(*value),
        Item::Raw(text) => text.trim().replace('_', "").parse().ok(),
        _ => None,
    };
    value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| "is not a whole number from 0 up".to_owned())
}

impl Setting for u32 {
    fn read(node: &Node) -> Result<Self, String> {
        read_int(node)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    fn read(node: &Node) -> Result<Self, String> {
        read_int(node)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    fn read(node: &Node) -> Result<Self, String> {
        read_int(node)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for f64 {
    fn read(node: &Node) -> Result<Self, String> {
        let value = match &node.item {
            Item::Int(value) => i32::try_from(*value).ok().map(Self::from),
            Item::Float(value) => Some(*value),
            Item::Raw(text) => text.trim().parse().ok(),
            _ => None,
        };
        value.filter(|value| value.is_finite()).ok_or_else(|| "is not a number".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    fn read(node: &Node) -> Result<Self, String> {
        let text = match &node.item {
            Item::Text(text) | Item::Raw(text) => text.as_str(),
            Item::Int(_) | Item::Float(_) => {
                return Err("has no unit; a duration reads \"250ms\", \"10s\", \"1m\" or \"1h\"".to_owned());
            }
            _ => "",
        };
        parse_duration(text)
            .ok_or_else(|| "is not a duration, for example \"250ms\", \"10s\", \"1m\" or \"1h\"".to_owned())
    }

    fn show(&self) -> String {
        show_duration(*self).show()
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) usize);

impl Setting for Size {
    fn read(node: &Node) -> Result<Self, String> {
        let bytes = match &node.item {
            Item::Text(text) | Item::Raw(text) => parse_size(text),
            Item::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        };
        let expected = "is not a size, for example 65536, \"64KiB\" or \"1MiB\"";
        bytes.and_then(|bytes| usize::try_from(bytes).ok()).map(Self).ok_or_else(|| expected.to_owned())
    }

    fn show(&self) -> String {
        show_size(self.0 as u64).show()
    }
}

impl Setting for SocketAddr {
    fn read(node: &Node) -> Result<Self, String> {
        let text = match &node.item {
            Item::Text(text) | Item::Raw(text) => text.as_str(),
            _ => "",
        };
        // `localhost` is what people write; it is the IPv4 loopback here, so that it means one address on every machine.
        let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map_err(|_| "is not an address:port, for example \"0.0.0.0:4000\"".to_owned())
    }

    fn show(&self) -> String {
        self.to_string().show()
    }
}

impl<T: Setting> Setting for Vec<T> {
    /// A list; in the environment and in `--set` also `a,b c`.
    fn read(node: &Node) -> Result<Self, String> {
        let item = |node: &Node| T::read(node).map_err(|expected| format!("holds {}, which {expected}", node.seen()));
        match &node.item {
            Item::List(nodes) => nodes.iter().map(item).collect(),
            Item::Raw(text) => text
                .split([',', ' '])
                .filter(|part| !part.is_empty())
                .map(|part| item(&Node::new(node.origin.clone(), Item::Raw(part.to_owned()))))
                .collect(),
            _ => Err("is not a list, for example [\"a\", \"b\"]".to_owned()),
        }
    }

    fn show(&self) -> String {
        format!("[{}]", self.iter().map(T::show).collect::<Vec<_>>().join(", "))
    }
}
