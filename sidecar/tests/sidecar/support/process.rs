//! A sidecar's process.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{World, eventually, free_port, get};

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_murmur-sidecar"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A sidecar's process, with the environment that the operator gives it.
pub(crate) struct Process {
    pub(crate) child: Child,
    local: u16,
    admin: u16,
}

impl Process {
    pub(crate) fn start(world: &World, more: &[(&str, &Path)]) -> Self {
        let arguments = world.arguments();
        let (local, admin) = (free_port().unwrap(), free_port().unwrap());
        let mut command = program();
        command
            .arg("run")
            .env("MURMUR_BUS_URL", &arguments.bus_url)
            .env("MURMUR_CONFIG", &arguments.config)
            .env("MURMUR_BUS_CREDENTIALS", &arguments.bus_credentials)
            .env("MURMUR_POD", "users-1")
            .env("MURMUR_LOCAL_ADDRESS", format!("127.0.0.1:{local}"))
            .env("MURMUR_ADMIN_ADDRESS", format!("127.0.0.1:{admin}"))
            .stdout(Stdio::null());
        for (name, value) in
            [("MURMUR_DATABASE_PATH", &arguments.database_path), ("MURMUR_DATABASE", &arguments.database)]
        {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        for (name, value) in more {
            command.env(name, value);
        }
        Self { child: command.spawn().unwrap(), local, admin }
    }

    /// A replica of its own: another pod, which delivers to `/<pod>`.
    pub(crate) fn replica(world: &World, pod: &str) -> Self {
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(world.arguments().config).unwrap()).unwrap();
        for subscription in config["subscriptions"].as_array_mut().unwrap() {
            subscription["deliver"]["path"] = format!("/{pod}").into();
        }
        let file = world.folder.path().join(format!("{pod}.json"));
        std::fs::write(&file, config.to_string()).unwrap();
        Self::start(world, &[("MURMUR_POD", Path::new(pod)), ("MURMUR_CONFIG", &file)])
    }

    pub(crate) fn local(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.local).into()
    }

    pub(crate) async fn is_started(&self) -> bool {
        tokio::net::TcpStream::connect(("127.0.0.1", self.admin)).await.is_ok()
            && get(([127, 0, 0, 1], self.admin).into(), "/startedz").await.status == 200
    }

    pub(crate) async fn until_connected(&self) {
        eventually("the process is started", async || self.is_started().await).await;
        eventually("it is connected", async || {
            get(self.local(), "/v1/status").await.json()["bus"]["connected"] == true
        })
        .await;
    }

    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn drain(&self) -> Child {
        let mut command = program();
        command.arg("drain").env("MURMUR_LOCAL_ADDRESS", format!("127.0.0.1:{}", self.local));
        command.spawn().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
