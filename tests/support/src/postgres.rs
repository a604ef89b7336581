//! A Postgres server of a test's own, from Debian's packages, with the roles that
//! the operator's start script makes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};

use crate::broker::free_port;

/// Where Debian puts the servers' programs, one folder for each major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The name of the database and of the service's role.
pub const SERVICE: &str = "service";
/// Every role's password.
pub const PASSWORD: &str = "secret";
/// Who the server runs as where a test runs as root, which Postgres refuses: nobody, since it must have a name.
const USER: u32 = 65534;

/// A running server; killed, by its id, when dropped.
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    folder: TempDir,
    child: Option<Child>,
}

impl Postgres {
    /// Starts one, with further `settings` such as `fsync=off`.
    ///
    /// # Errors
    /// When Postgres is not installed or does not come up within 20 s.
    pub async fn start(settings: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("murmur-postgres").tempdir()?;
        let mut server = Self { port: free_port()?, programs: programs()?, folder, child: None };
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(server.folder.path(), Some(USER), Some(USER))?;
        }
        let data = server.data();
        server.initialize(&data).await?;
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n{}\n",
            server.port,
            settings.join("\n")
        );
        append(&data.join("postgresql.conf"), &text)?;
        server.resume().await?;
        server.roles().await?;
        Ok(server)
    }

    /// An empty cluster of databases in `data`: a copy of one that the first who needed one has made, which costs a
    /// tenth of the time. That one stays among the machine's temporary files, for the next run.
    async fn initialize(&self, data: &Path) -> Result<()> {
        let version = self.programs.parent().and_then(Path::file_name).context("no version")?;
        let user = rustix::process::getuid().as_raw();
        let template =
            std::env::temp_dir().join(format!("murmur-postgres-template-{}-{user}", version.display()));
        if !template.exists() {
            let new = self.folder.path().join("template");
            let arguments =
                ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "--pgdata"];
            succeed(self.command("initdb").args(arguments).arg(&new)).await?;
            // Somebody else may have been quicker.
            if std::fs::rename(&new, &template).is_err() && !template.exists() {
                bail!("{} could not be moved to {}", new.display(), template.display());
            }
        }
        succeed(Command::new("cp").arg("-a").arg(&template).arg(data)).await
    }

    /// The roles that the operator's start script makes.
    async fn roles(&self) -> Result<()> {
        let postgres = self.connect("postgres", "postgres").await?;
        postgres
            .batch_execute(&format!(
                "CREATE ROLE {SERVICE} LOGIN PASSWORD '{PASSWORD}';\n\
                 CREATE ROLE murmur LOGIN CREATEROLE PASSWORD '{PASSWORD}'"
            ))
            .await?;
        postgres.batch_execute(&format!("CREATE DATABASE {SERVICE} OWNER {SERVICE}")).await?;
        postgres.batch_execute(&format!("GRANT CREATE ON DATABASE {SERVICE} TO murmur")).await?;
        let inside = self.connect("postgres", SERVICE).await?;
        inside.batch_execute("GRANT CREATE ON SCHEMA public TO murmur").await?;
        inside.batch_execute(&format!("GRANT ALL ON SCHEMA public TO {SERVICE}")).await?;
        Ok(())
    }

    /// Starts it again after [`Postgres::kill`], with the same data and port.
    ///
    /// # Errors
    /// When it does not come up within 20 s.
    pub async fn resume(&mut self) -> Result<()> {
        let log = std::fs::File::options().append(true).create(true).open(self.folder.path().join("log"))?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("could not start postgres")?;
        self.child = Some(child);
        for _ in 0..400 {
            if let Ok(client) = self.connect("postgres", "postgres").await
                && client.simple_query("SELECT 1").await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("postgres did not come up within 20 s: {}", self.log())
    }

    /// Ends it at once, as a crash would (SIGQUIT: what was not on disk yet is recovered from the log).
    ///
    /// # Errors
    /// When there is no process to wait for.
    pub async fn kill(&mut self) -> Result<()> {
        self.signal(Signal::QUIT)?;
        if let Some(mut child) = self.child.take() {
            child.wait().await?;
        }
        Ok(())
    }

    /// Takes TLS connections alone from now on, with this certificate and key (PEM).
    ///
    /// # Errors
    /// When it does not come up with them.
    pub async fn serve_tls(&mut self, certificate: &str, key: &str) -> Result<()> {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.data().join(name);
            std::fs::write(&file, text)?;
            std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            if rustix::process::getuid().is_root() {
                std::os::unix::fs::chown(&file, Some(USER), Some(USER))?;
            }
        }
        append(&self.data().join("postgresql.conf"), "ssl = on\n")?;
        let rules = "local all all trust\nhost all postgres all trust\nhostssl all all all trust\n";
        std::fs::write(self.data().join("pg_hba.conf"), rules)?;
        self.kill().await?;
        self.resume().await
    }

    /// Sends a signal, such as STOP and CONT, to the server's first process.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.as_ref().and_then(Child::id).context("postgres is not running")?;
        kill_process(Pid::from_raw(i32::try_from(id)?).context("no process id")?, signal)?;
        Ok(())
    }

    /// Sends a signal to all of the server's processes: statements are answered by others than its first one.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        let first = self.child.as_ref().and_then(Child::id).context("postgres is not running")?;
        // Before the others when they are to stop: it would start new ones meanwhile.
        self.signal(signal)?;
        for process in std::fs::read_dir("/proc")?.flatten() {
            let name = process.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            if parent_of(&process.path()) == Some(first)
                && let Some(id) = Pid::from_raw(id)
            {
                // It may have ended by now.
                let _ = kill_process(id, signal);
            }
        }
        Ok(())
    }

    /// A connection as one of the roles `postgres`, `service` and `murmur`.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn connect(&self, role: &str, database: &str) -> Result<Client> {
        let text = format!(
            "host=127.0.0.1 port={} user={role} password={PASSWORD} dbname={database} connect_timeout=5",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Writes the folder that tells a sidecar how to connect (`MURMUR_DATABASE`).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn credentials(&self) -> Result<PathBuf> {
        let folder = self.folder.path().join("credentials");
        std::fs::create_dir_all(&folder)?;
        for (name, text) in [
            ("host", "127.0.0.1"),
            ("port", &self.port.to_string()),
            ("database", SERVICE),
            ("username", SERVICE),
            ("murmur-password", PASSWORD),
        ] {
            std::fs::write(folder.join(name), text)?;
        }
        Ok(folder)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path());
        if rustix::process::getuid().is_root() {
            command.uid(USER).gid(USER);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // What a test has stopped would never end.
        let _ = self.signal_all(Signal::CONT);
        // Its own processes end when the first one gets this; killed alone, they might outlive the folder.
        let _ = self.signal(Signal::QUIT);
        if let Some(mut child) = self.child.take() {
            for _ in 0..100 {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The process that has started the one of this folder under `/proc`.
fn parent_of(process: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

async fn succeed(command: &mut Command) -> Result<()> {
    let done = command.output().await?;
    if !done.status.success() {
        bail!("{:?}: {}", command.as_std(), String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

fn append(file: &Path, text: &str) -> Result<()> {
    let before = std::fs::read_to_string(file)?;
    Ok(std::fs::write(file, before + text)?)
}

/// The newest version's programs.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).filter(|path| number(path).is_some()).max_by_key(number);
    let programs = newest.map(|path| path.join("bin")).filter(|path| path.join("postgres").exists());
    programs.context("Postgres is not installed; run: tests/cluster/packages.sh postgres=postgresql")
}
