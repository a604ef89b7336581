//! The command line as text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use murmur_mesh::{EventType, ServiceName, SubscriptionName};

/// All that is written after `murmur`.
#[derive(Debug, Parser)]
#[command(name = "murmur", version, about = "Looks at a Murmur mesh and administers it.")]
pub struct Arguments {
    /// What all verbs share.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What all verbs share.
#[derive(Debug, Args)]
pub struct Common {
    /// The namespace that is the mesh; the current one of the kubeconfig when absent
    #[arg(long, short, global = true, env = "MURMUR_NAMESPACE")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig; its current one when absent
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Where NATS listens; when absent it is reached through the API server (port-forward)
    #[arg(long, global = true, env = "MURMUR_NATS_URL")]
    pub nats_url: Option<String>,
    /// A folder with the files of the Secret murmur-viewer or murmur-admin, in place of the Secret; needs --namespace
    #[arg(long, global = true, env = "MURMUR_CREDENTIALS")]
    pub credentials: Option<PathBuf>,
    /// How what is found is written
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// How what is found is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The mesh's services, subscriptions and event store
    Status,
    /// Events that a service rejected or that used up their attempts
    #[command(subcommand)]
    Deadletters(DeadLetters),
    /// Events in the event store
    #[command(subcommand)]
    Events(Events),
    /// The event store as a whole
    #[command(subcommand)]
    Mesh(Mesh),
}

/// Verbs on dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// Lists dead letters, the oldest first
    List {
        /// Only those of this EventSubscription
        #[arg(long, short)]
        subscription: Option<SubscriptionName>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows one dead letter in full: its event, and why it died
    Show {
        /// Its number in the list
        letter: u64,
    },
    /// Gives dead letters to their subscription again, and to no other
    Redrive(Selection),
    /// Deletes dead letters: their events will never be delivered to the subscription
    Drop {
        /// Which ones
        #[command(flatten)]
        selection: Selection,
        /// Yes, they are to be deleted
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Selection {
    /// Numbers in the list
    pub letters: Vec<u64>,
    /// All of this EventSubscription
    #[arg(long, short)]
    pub subscription: Option<SubscriptionName>,
    /// All of the mesh
    #[arg(long)]
    pub all: bool,
}

/// Verbs on events.
#[derive(Debug, Subcommand)]
pub enum Events {
    /// Shows events as they come
    Tail(Tail),
    /// Shows one event in full
    Show {
        /// Its sequence in the event store
        sequence: u64,
    },
}

/// Which events are shown.
#[derive(Debug, Args)]
pub struct Tail {
    /// Only this type
    #[arg(long = "type", short = 't')]
    pub event_type: Option<EventType>,
    /// Only those that this service published
    #[arg(long, short)]
    pub service: Option<ServiceName>,
    /// Only those with this key (partitionkey, else id)
    #[arg(long, short)]
    pub key: Option<String>,
    /// Begin with this sequence; with what comes next when absent
    #[arg(long)]
    pub from: Option<u64>,
    /// End after so many
    #[arg(long)]
    pub limit: Option<u64>,
    /// End with the last event that is there at the start
    #[arg(long)]
    pub no_follow: bool,
}

/// Verbs on the event store.
#[derive(Debug, Subcommand)]
pub enum Mesh {
    /// Saves events, dead letters and the positions of all subscriptions in a folder
    Backup {
        /// The folder; the backup becomes a folder of its own in it
        #[arg(long)]
        to: PathBuf,
        /// Delete the oldest backups of the mesh there, so that this many are left
        #[arg(long)]
        keep: Option<usize>,
    },
    /// Puts a backup in the place of the event store
    Restore {
        /// The backup: a folder that `backup` made
        #[arg(long)]
        from: PathBuf,
        /// The event store is to go, with the events that it holds
        #[arg(long)]
        replace: bool,
    },
    /// Erases all events of a key from the event store, for good
    Erase {
        /// The key: the events' partitionkey, else their id
        #[arg(long)]
        key: String,
        /// Only those that this service published
        #[arg(long, short)]
        service: Option<ServiceName>,
        /// Yes, they are to be erased
        #[arg(long)]
        yes: bool,
    },
}
