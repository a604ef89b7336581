//! The service's SQLite database: it exists, in WAL mode, before the service starts.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// Why the database could not be made ready.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the database {file}: {cause}; its folder must be writable for the pod's group")]
pub struct DatabaseError {
    file: PathBuf,
    cause: String,
}

/// Creates the file if there is none and switches it to WAL mode, which SQLite
/// keeps in the file: whoever opens it later uses it.
///
/// # Errors
/// When the file cannot be created, or is not a database.
pub fn prepare(path: &Path) -> Result<(), DatabaseError> {
    let failed = |cause: String| DatabaseError { file: path.to_owned(), cause };
    if !path.exists() {
        let file = File::create_new(path).map_err(|error| failed(error.to_string()))?;
        // The service may run under another uid of the same group.
        file.set_permissions(Permissions::from_mode(0o660)).map_err(|error| failed(error.to_string()))?;
    }
    let database = Connection::open(path).map_err(|error| failed(error.to_string()))?;
    let mode: String = database
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| failed(error.to_string()))?;
    if mode != "wal" {
        return Err(failed(format!("the file system does not allow WAL mode (it stays {mode:?})")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_is_in_wal_mode_and_writable_for_the_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.db");
        prepare(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let again = Connection::open(&path).unwrap();
        let journal: String = again.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(journal, "wal");
    }

    #[test]
    fn an_existing_database_keeps_its_rows_and_a_foreign_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.db");
        prepare(&path).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (7)")
            .unwrap();
        prepare(&path).unwrap();
        let x: i64 =
            Connection::open(&path).unwrap().query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(x, 7);

        let foreign = folder.path().join("notes.txt");
        std::fs::write(&foreign, "not a database, but long enough to be looked at as one").unwrap();
        assert!(prepare(&foreign).is_err());
    }
}
