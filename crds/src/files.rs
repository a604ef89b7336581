//! The files that the definitions are written to.

use std::path::PathBuf;

/// One file and what it must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path inside the repository.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// The folders that hold a copy: for `kubectl apply -f crds/`, and the chart's.
pub const FOLDERS: [&str; 2] = ["crds", "charts/murmur-crds/templates"];

/// Why the files could not be made.
#[derive(Debug)]
pub enum Error {
    /// A definition is not valid.
    Definition(serde_json::Error),
    /// A definition cannot be written as YAML.
    Yaml(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Definition(error) => write!(f, "a generated definition is not valid: {error}"),
            Self::Yaml(error) => write!(f, "a definition cannot be written as YAML: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// All files, in a fixed order.
///
/// # Errors
/// When a definition is not valid, which is a mistake in this crate.
pub fn all() -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    for definition in crate::definitions().map_err(Error::Definition)? {
        let yaml = serde_saphyr::to_string(&definition).map_err(|error| Error::Yaml(error.to_string()))?;
        let text = format!(
            "# Written by crdgen: change crds/src, then run `cargo run -p murmur-crds --bin crdgen`.\n{yaml}"
        );
        for folder in FOLDERS {
            let path = PathBuf::from(folder).join(format!("{}.yaml", definition.spec.names.plural));
            files.push(File { path, text: text.clone() });
        }
    }
    Ok(files)
}
