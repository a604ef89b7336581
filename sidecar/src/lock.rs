//! The lock on the service's volume: two pods never write one volume.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The file that is locked, on the volume.
pub const LOCK_FILE: &str = ".murmur.lock";

/// Between two tries: the kernel offers no wait that could also be cancelled.
const RETRY: Duration = Duration::from_millis(200);

/// Why the volume could not be locked.
#[derive(Debug, thiserror::Error)]
#[error("cannot lock {file}: {cause}; the volume must be writable for the pod's group")]
pub struct LockError {
    file: PathBuf,
    cause: io::Error,
}

/// Holds the volume until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct VolumeLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Locks the volume, waiting as long as another pod holds it.
///
/// # Errors
/// When the file can be neither created nor locked.
pub async fn hold(volume: &Path) -> Result<VolumeLock, LockError> {
    let path = volume.join(LOCK_FILE);
    let failed = |cause| LockError { file: path.clone(), cause };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(VolumeLock(file)),
            Err(Errno::WOULDBLOCK) => {
                if !told {
                    tracing::warn!(file = %path.display(), "another pod still holds the volume; waiting for it to end");
                    told = true;
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}
