//! Says when SQLite's write-ahead log is written: the kernel tells (inotify), nobody asks.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A watch on the log of a database.
///
/// The log is one and the same file for as long as somebody has the database open.
pub(super) struct Wal {
    events: AsyncFd<OwnedFd>,
}

impl Wal {
    /// Watches the log of the database at this path, which must be open.
    pub(super) fn watch(database: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, log_of(database), WatchFlags::MODIFY)?;
        // The constructor that takes its place is unsafe, for the sake of types that lie about what they own.
        #[allow(deprecated, reason = "an OwnedFd owns its descriptor")]
        let events = AsyncFd::with_interest(events, Interest::READABLE)?;
        Ok(Self { events })
    }

    /// Waits until it has been written since the last time.
    pub(super) async fn written(&mut self) -> io::Result<()> {
        let mut ready = self.events.readable_mut().await?;
        take_all(ready.get_inner())?;
        ready.clear_ready();
        Ok(())
    }
}

/// Takes what the kernel has said, so that its next word counts. What it says is known.
fn take_all(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut events = inotify::Reader::new(events, &mut buffer);
    loop {
        match events.next() {
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                return Err(io::Error::other("it is another file by now"));
            }
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn log_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}
