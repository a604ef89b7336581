//! The folder that holds the backups of meshes: which of them are whole, and
//! which are what an interrupted run left, of one that it made or deleted.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::manifest::{FILE, PATIENCE};

/// How long nothing was written to what an interrupted run left. One that goes
/// on waits for the broker no longer than [`PATIENCE`] before it writes or ends.
const INTERRUPTED: Duration = PATIENCE.saturating_mul(3);

/// Where a new backup is written, and where it is once it is whole.
pub(super) fn new(to: &Path, mesh: &str, now: Timestamp) -> (PathBuf, PathBuf) {
    let name = format!("{mesh}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    (to.join(partial(&name)), to.join(name))
}

/// The name of what is no whole backup yet, or not any more.
fn partial(name: &str) -> String {
    format!(".{name}.partial")
}

/// Deletes what interrupted backups of the mesh left, which would take the room of the next one.
pub(super) async fn remove_interrupted(to: &Path, mesh: &str) -> Result<()> {
    let is_partial = |name: &str| {
        let name = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".partial"));
        name.is_some_and(|name| is_backup(name, mesh))
    };
    for path in named(to, is_partial).await? {
        // What cannot be looked at or deleted is no reason to make no backup.
        if !is_interrupted(&path).await.unwrap_or(false) {
            continue;
        }
        match tokio::fs::remove_dir_all(&path).await {
            Ok(()) => eprintln!("murmur: {} was deleted: that backup is not whole", path.display()),
            Err(error) => {
                eprintln!("murmur: {} cannot be deleted ({error}); delete it yourself", path.display());
            }
        }
    }
    Ok(())
}

/// Deletes the oldest whole backups of the mesh; returns which. One of which only some is deleted is not among the
/// backups any more: the next run that finds it deletes the rest.
pub(super) async fn remove_old(to: &Path, mesh: &str, keep: usize) -> Result<Vec<PathBuf>> {
    let mut all = named(to, |name| is_backup(name, mesh)).await?;
    all.retain(|path| path.join(FILE).is_file());
    let surplus = all.len().saturating_sub(keep);
    all.truncate(surplus);
    for old in &all {
        let name = old.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let going = to.join(partial(&name));
        let deleted = async {
            tokio::fs::rename(old, &going).await?;
            tokio::fs::remove_dir_all(&going).await
        };
        deleted.await.with_context(|| {
            format!("the backup was made, but the old one {} cannot be deleted", old.display())
        })?;
    }
    Ok(all)
}

/// What bears such a name in a folder, the oldest first.
async fn named(to: &Path, is_meant: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let cannot_be_read = || format!("{} cannot be read", to.display());
    let mut entries = tokio::fs::read_dir(to).await.with_context(cannot_be_read)?;
    while let Some(entry) = entries.next_entry().await.with_context(cannot_be_read)? {
        if is_meant(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name is `<mesh>-<20261121T090000Z>`: another mesh's may begin like this one's.
fn is_backup(name: &str, mesh: &str) -> bool {
    let time = name.strip_prefix(mesh).and_then(|rest| rest.strip_prefix('-'));
    time.is_some_and(|time| time.len() == 16 && time.ends_with('Z') && time.as_bytes()[8] == b'T')
}

/// Whether nobody has written to a folder, or to a file in it, for so long that no run is at it.
async fn is_interrupted(folder: &Path) -> std::io::Result<bool> {
    let mut last = tokio::fs::metadata(folder).await?.modified()?;
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        last = last.max(entry.metadata().await?.modified()?);
    }
    // A time that is yet to come is another clock's, and no sign of an end.
    Ok(SystemTime::now().duration_since(last).is_ok_and(|idle| idle > INTERRUPTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_of_a_mesh_is_told_from_one_of_a_mesh_whose_name_begins_like_it() {
        assert!(is_backup("shop-20261121T090000Z", "shop"));
        for other in ["shop-x-20261121T090000Z", "shop-20261121T090000Z.old", "shop", "x-20261121T090000Z"] {
            assert!(!is_backup(other, "shop"), "{other}");
        }
    }

    #[tokio::test]
    async fn an_old_backup_that_was_deleted_in_part_is_no_backup_and_the_next_run_deletes_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["shop-20261121T090000Z", "shop-20261122T090000Z"];
        for name in names {
            let backup = folder.path().join(name);
            std::fs::create_dir(&backup).unwrap();
            std::fs::write(backup.join(FILE), "").unwrap();
        }
        // Were it deleted where it stands, a death in the middle would leave a backup that is none.
        let left = folder.path().join(partial(names[0]));
        std::fs::write(&left, "in the way of the rename").unwrap();
        assert!(remove_old(folder.path(), "shop", 1).await.is_err());
        assert!(folder.path().join(names[0]).join(FILE).exists(), "it is as whole as before");
        std::fs::remove_file(&left).unwrap();
        assert_eq!(remove_old(folder.path(), "shop", 1).await.unwrap().len(), 1);
        assert!(!folder.path().join(names[0]).exists() && !left.exists());
        assert!(folder.path().join(names[1]).join(FILE).exists());
    }
}
