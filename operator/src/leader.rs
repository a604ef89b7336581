//! Leader election: of several replicas one acts, the others stand by.

use std::time::Duration;

use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::settings::Settings;

/// How long the lease may take to be given back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A place in the election.
pub struct Election {
    leading: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Election {
    /// Stands for election.
    ///
    /// # Errors
    /// When the lease can be neither read nor made.
    pub async fn enter(client: kube::Client, settings: &Settings) -> Result<Self, LeaseManagerError> {
        let seconds = settings.lease_duration.as_secs().max(2);
        let manager = LeaseManagerBuilder::new(client, &settings.lease_name)
            .with_namespace(&settings.namespace)
            .with_identity(&settings.identity)
            // Both are set at once: the builder checks each against the other's default.
            .with_parameters(kube_lease_manager::LeaseParams::new(
                &settings.identity,
                seconds,
                (seconds / 3).max(1),
            ))
            .build()
            .await?;
        let (leading, task) = manager.watch().await;
        Ok(Self { leading, task })
    }

    /// Waits until this replica leads.
    pub async fn won(&mut self) {
        // An error means that the task behind it has ended: never won.
        if self.leading.wait_for(|leading| *leading).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this replica no longer leads.
    pub async fn lost(&mut self) {
        let _ = self.leading.wait_for(|leading| !*leading).await;
    }

    /// Gives the lease back, so that another replica need not wait for it to expire.
    pub async fn leave(self) {
        drop(self.leading);
        match tokio::time::timeout(RELEASE_TIMEOUT, self.task).await {
            Ok(Ok(Ok(_))) => tracing::info!("gave the lease back"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the lease could not be given back; it will expire"),
            _ => tracing::warn!("the lease could not be given back in time; it will expire"),
        }
    }
}
