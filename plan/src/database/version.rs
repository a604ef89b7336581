//! Versions of a server's data: a minor one rolls, a major one would not read it.

use std::collections::BTreeMap;
use std::fmt;

use super::{Engine, Server};
use crate::labels;
use crate::settings::DatabaseImage;
use crate::status::conditions::Problem;

/// A version: the tag of an image that begins with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// Reads a tag such as `17`, `17.2` or `17.2-bookworm`.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.split('-').next().unwrap_or_default();
        let whole = numbers.split('.').all(|part| part.parse::<u32>().is_ok());
        whole.then(|| Self(text.to_owned()))
    }

    /// The part of it that data is bound to.
    pub fn series(&self, engine: Engine) -> String {
        let parts = match engine {
            Engine::Postgres | Engine::Redis => 1,
            // 11.4 and 11.8 differ in their system tables.
            Engine::MariaDb => 2,
        };
        let numbers = self.0.split('-').next().unwrap_or_default();
        numbers.split('.').take(parts).collect::<Vec<_>>().join(".")
    }

    /// The first number.
    pub(super) fn major(&self) -> u32 {
        self.0.split(['.', '-']).next().and_then(|part| part.parse().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a claim says about the data on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The engine, as the resource writes it.
    pub engine: String,
    /// What wrote it; `None` while no server has ever been ready on it.
    pub written: Option<Written>,
}

/// What wrote the data on a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The version.
    pub version: Version,
    /// The image of that.
    pub image: String,
}

impl Held {
    /// Reads a claim's annotations.
    pub fn of(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let written = || {
            let version = Version::parse(annotations.get(labels::DATABASE_VERSION)?)?;
            Some(Written { version, image: annotations.get(labels::DATABASE_IMAGE)?.clone() })
        };
        Some(Self { engine: annotations.get(labels::ENGINE)?.clone(), written: written() })
    }
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The version.
    pub version: Version,
    /// The whole reference of its image.
    pub image: String,
    /// Why that is not what was wished for.
    pub refused: Option<Problem>,
}

/// Decides what runs: what is wished for, unless the data is of another major version.
pub fn settle(server: &Server, ours: &DatabaseImage, held: Option<&Held>) -> Settled {
    let wanted = server.version.as_ref().unwrap_or(&ours.version);
    let image = server.image.clone().unwrap_or_else(|| format!("{}:{}", ours.repository, wanted));
    let fits = Settled { version: wanted.clone(), image, refused: None };
    let Some(held) = held.and_then(|held| held.written.as_ref()) else { return fits };
    if held.version.series(server.engine) == wanted.series(server.engine) {
        return fits;
    }
    let refused = server.version.as_ref().map(|wanted| {
        let engine = server.engine.as_str();
        Problem::new(
            "MajorVersionRefused",
            format!(
                "the data is of {engine} {}, which {engine} {wanted} cannot read: the server stays as it is. \
                 docs/databases.md says how to move to another major version; until then set version to one of {}",
                held.version,
                held.version.series(server.engine),
            ),
        )
    });
    // A newer operator's own version is no wish: the data decides.
    Settled { version: held.version.clone(), image: held.image.clone(), refused }
}
