//! A known client, publisher or operator, and what it may do.

use std::sync::Arc;

use super::claims::TokenRights;
use super::error::{AuthError, Missing};
use super::pattern::TopicPattern;
use crate::config::{Access, AnonymousRights, Scope};

/// Somebody whose credential was accepted, or who showed none.
#[derive(Clone, Debug)]
pub struct Principal {
    who: Who,
    scopes: Vec<Scope>,
    /// `None` is whoever shows nothing: then the channel alone decides.
    rights: Option<Rights>,
    anonymous: AnonymousRights,
    expires_at: Option<u64>,
}

/// How somebody is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nothing was presented.
    Stranger,
    /// An API key, by its name.
    Key(Arc<str>),
    /// A token, with the user that it names.
    User(Option<Arc<str>>),
}

#[derive(Clone, Debug)]
struct Rights {
    allow: Arc<[TopicPattern]>,
    publish: Arc<[TopicPattern]>,
}

const TOKEN: &str = "a client token";

impl Principal {
    pub(super) fn stranger(anonymous: AnonymousRights, scopes: Vec<Scope>) -> Self {
        Self { who: Who::Stranger, scopes, rights: None, anonymous, expires_at: None }
    }

    /// An API key reads everything; what else it may do, its scopes say.
    pub(super) fn of_key(name: Arc<str>, scopes: Vec<Scope>, expires_at: Option<u64>) -> Self {
        let all: Arc<[TopicPattern]> = [TopicPattern::all()].into();
        let publish = if scopes.contains(&Scope::Publish) { all.clone() } else { [].into() };
        let rights = Some(Rights { allow: all, publish });
        Self { who: Who::Key(name), scopes, rights, anonymous: NOTHING, expires_at }
    }

    pub(super) fn of_token(token: TokenRights, scopes: Vec<Scope>) -> Self {
        let rights = Some(Rights { allow: token.allow, publish: token.publish });
        Self { who: Who::User(token.user), scopes, rights, anonymous: NOTHING, expires_at: Some(token.expires_at) }
    }

    /// How it is known.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// The user that its token names.
    pub fn user(&self) -> Option<&Arc<str>> {
        match &self.who {
            Who::User(user) => user.as_ref(),
            Who::Stranger | Who::Key(_) => None,
        }
    }

    /// When its credential ends, in Unix seconds. Its live sockets are closed then.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// Whether it may join a topic of a channel with this access, and read there by other ways.
    ///
    /// A token says all that its holder may do: what it does not cover is refused even where a stranger would be let in.
    ///
    /// # Errors
    ///
    /// A token is needed, or the one that was shown does not cover the topic.
    pub fn may_join(&self, topic: &str, access: Access) -> Result<(), AuthError> {
        match (&self.rights, access) {
            (_, Access::Nobody) => Err(AuthError::Forbidden(Missing::Join)),
            (Some(rights), _) if covers(&rights.allow, topic) => Ok(()),
            (Some(_), _) => Err(AuthError::Forbidden(Missing::Join)),
            (None, Access::Anyone) => Ok(()),
            (None, Access::Token) => Err(AuthError::Unauthorized { needed: TOKEN }),
        }
    }

    /// Whether it may send on a topic of a channel with this access. Who may send may not for that reason join.
    ///
    /// # Errors
    ///
    /// A token is needed, the one that was shown does not cover the topic, or nobody may send there.
    pub fn may_send(&self, topic: &str, access: Access) -> Result<(), AuthError> {
        match (&self.rights, access) {
            (_, Access::Nobody) => Err(AuthError::Forbidden(Missing::Closed)),
            (Some(rights), _) if covers(&rights.publish, topic) => Ok(()),
            (Some(_), _) => Err(AuthError::Forbidden(Missing::Send)),
            (None, Access::Anyone) => Ok(()),
            (None, Access::Token) => Err(AuthError::Unauthorized { needed: TOKEN }),
        }
    }

    /// Whether it may read what belongs to no channel, such as the list of all quotes.
    ///
    /// # Errors
    ///
    /// Strangers may read nothing here.
    pub fn may_read(&self) -> Result<(), AuthError> {
        match &self.rights {
            None if !self.anonymous.read => Err(AuthError::Unauthorized { needed: "a client token or an API key" }),
            _ => Ok(()),
        }
    }

    /// Whether it may publish quotes, and broadcast from outside.
    ///
    /// # Errors
    ///
    /// It shows no API key with the scope `publish`.
    pub fn may_publish(&self) -> Result<(), AuthError> {
        self.needs(Scope::Publish, "an API key with the scope \"publish\"")
    }

    /// Whether it may change or debug the server.
    ///
    /// # Errors
    ///
    /// It shows no API key with the scope `admin`.
    pub fn may_administer(&self) -> Result<(), AuthError> {
        self.needs(Scope::Admin, "an API key with the scope \"admin\"")
    }

    fn needs(&self, scope: Scope, needed: &'static str) -> Result<(), AuthError> {
        match &self.who {
            _ if self.scopes.contains(&scope) => Ok(()),
            Who::Key(_) => Err(AuthError::Forbidden(Missing::Scope(scope))),
            Who::Stranger | Who::User(_) => Err(AuthError::Unauthorized { needed }),
        }
    }
}

const NOTHING: AnonymousRights = AnonymousRights { read: false, write: false };

fn covers(patterns: &[TopicPattern], topic: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(topic))
}
