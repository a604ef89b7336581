//! What a backup says of itself, and what is true of its files.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::error::mistake;

/// How long the broker may be silent: it checks all its messages before the first piece.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// The form of a backup.
pub(super) const FORMAT: u32 = 1;
/// The name of the manifest.
pub(super) const FILE: &str = "manifest.json";

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// The mesh.
    pub(super) mesh: String,
    /// When it was begun, RFC 3339.
    pub(super) made: String,
    /// Its streams, in the order in which they are restored.
    pub(super) streams: Vec<Saved>,
}

/// One stream in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Saved {
    pub(super) name: String,
    pub(super) file: String,
    /// The length of the file.
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// How many messages it holds at least.
    pub(super) messages: u64,
    pub(super) first_sequence: u64,
    /// Its last sequence at least: events that came meanwhile may be in it.
    pub(super) last_sequence: u64,
    /// As the broker had it.
    pub(super) config: Value,
    /// As the broker had it.
    pub(super) state: Value,
}

impl Manifest {
    /// Writes it, the last file of a backup.
    pub(super) async fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self)?;
        tokio::fs::write(&path, text)
            .await
            .with_context(|| format!("{} cannot be written", path.display()))?;
        tokio::fs::File::open(&path).await?.sync_all().await?;
        tokio::fs::File::open(folder).await?.sync_all().await?;
        Ok(())
    }

    /// Reads it, and checks each file against it.
    pub(super) async fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = tokio::fs::read(&path).await.map_err(|error| {
            mistake(format!("{} is no backup: {} cannot be read: {error}", folder.display(), path.display()))
        })?;
        let manifest: Self =
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(
            manifest.format == FORMAT,
            "{} has the form {}, which this version does not know",
            path.display(),
            manifest.format
        );
        for saved in &manifest.streams {
            let path = folder.join(&saved.file);
            let sum = Sum::of(&path).await.with_context(|| format!("{} cannot be read", path.display()))?;
            ensure!(
                sum.bytes() == saved.bytes && sum.clone().hex() == saved.sha256,
                "{} is damaged: it is not what was saved; take another backup. Nothing was changed",
                path.display()
            );
        }
        Ok(manifest)
    }
}

/// Length and checksum of what has passed by.
#[derive(Clone, Default)]
pub(super) struct Sum {
    hash: Sha256,
    bytes: u64,
}

impl Sum {
    pub(super) fn add(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn hex(self) -> String {
        HEXLOWER.encode(&self.hash.finalize())
    }

    async fn of(path: &Path) -> std::io::Result<Self> {
        let mut file = tokio::fs::File::open(path).await?;
        let (mut sum, mut buffer) = (Self::default(), vec![0; 256 * 1024]);
        loop {
            let length = file.read(&mut buffer).await?;
            if length == 0 {
                return Ok(sum);
            }
            sum.add(&buffer[..length]);
        }
    }
}
