//! The service's SQLite database: it exists, in WAL mode, before the service starts.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::DatabaseError;

/// How long a statement waits for another writer.
const BUSY: Duration = Duration::from_secs(5);

/// Creates the file if there is none and switches it to WAL mode, which SQLite
/// keeps in the file: whoever opens it later uses it.
///
/// # Errors
/// When the file cannot be created, or is not a database.
pub fn prepare(path: &Path) -> Result<(), DatabaseError> {
    let failed = |cause: String| DatabaseError::Sqlite { file: path.to_owned(), cause };
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

/// Opens the file that is there, for the sidecar's own writes.
///
/// # Errors
/// When there is none, or it is not a database.
pub fn open(path: &Path) -> Result<Connection, DatabaseError> {
    let open = || {
        let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        database.busy_timeout(BUSY)?;
        // In WAL mode no crash makes the file inconsistent. What a lost machine takes back is
        // the sidecar's position, too: it then does again what was lost.
        database.pragma_update(None, "synchronous", "NORMAL")?;
        database.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(database)
    };
    open().map_err(|error: rusqlite::Error| DatabaseError::Sqlite {
        file: path.to_owned(),
        cause: error.to_string(),
    })
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
        assert!(open(&foreign).is_err());
        assert!(open(&folder.path().join("absent.db")).is_err());
        assert!(open(&path).is_ok());
    }
}
