//! The event store as a whole.

mod backup;
mod erase;
mod folders;
mod manifest;
mod restore;

use anyhow::Result;
use murmur_mesh::people::Person;

use crate::arguments::{Common, Mesh};
use crate::error::mistake;
use crate::reach;

/// Does what is asked.
pub async fn run(common: &Common, verb: Mesh) -> Result<()> {
    match verb {
        Mesh::Backup { to, keep } => {
            let bus = reach::bus(common, Person::Viewer).await?;
            backup::backup(&bus, common.output, &to, keep).await
        }
        Mesh::Restore { from, replace } => {
            let bus = reach::bus(common, Person::Admin).await?;
            restore::restore(&bus, common.output, &from, replace).await
        }
        Mesh::Erase { key, service, yes } => {
            if !yes {
                return Err(mistake("erased events cannot be had back: add --yes if that is meant"));
            }
            let bus = reach::bus(common, Person::Admin).await?;
            erase::erase(&bus, common.output, &key, service.as_ref()).await
        }
    }
}
