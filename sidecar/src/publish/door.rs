//! What may leave the service: the types that it publishes, with data that
//! meet their schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use murmur_mesh::config::SidecarConfig;
use murmur_mesh::event::attribute::DATA_CONTENT_TYPE;
use murmur_mesh::event::{Event, structured};
use murmur_mesh::name::EventType;
use murmur_mesh::schema::{InvalidSchema, Schema};
use serde_json::Value;
use tokio::sync::watch;

/// What is checked, compiled once for a configuration.
#[derive(Debug)]
pub(crate) struct Door {
    types: BTreeMap<EventType, Option<Result<Schema, InvalidSchema>>>,
}

/// Why an event may not pass.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Its type is not published.
    #[error("the service does not publish {0}: add it to spec.publishes of the Microservice")]
    Type(EventType),
    /// There is a schema, and no JSON.
    #[error("the data of {0} must be JSON, since the type has a schema: {1}")]
    NotJson(EventType, String),
    /// It breaks the schema.
    #[error("the data does not meet the schema of {0}, {1}")]
    Schema(EventType, String),
    /// The schema is none.
    #[error("the data of {0} cannot be checked, since its schema in spec.publishes is not valid: {1}")]
    InvalidSchema(EventType, InvalidSchema),
}

impl Door {
    /// Compiles the schemas; one that cannot be compiled lets nothing of its type pass.
    pub(crate) fn new(config: &SidecarConfig) -> Self {
        let types = config.publishes.iter().map(|event_type| {
            let schema = config.schemas.get(event_type).map(Schema::compile);
            if let Some(Err(error)) = &schema {
                tracing::error!(
                    r#type = %event_type, %error,
                    "a schema is not valid: no event of its type is taken until it is mended"
                );
            }
            (event_type.clone(), schema)
        });
        Self { types: types.collect() }
    }

    /// Follows the configuration from `current` on, which the door was made of; what is checked stays until
    /// that changes.
    pub(crate) async fn follow(
        mut current: Arc<SidecarConfig>,
        mut configuration: watch::Receiver<Arc<SidecarConfig>>,
        door: watch::Sender<Arc<Self>>,
    ) {
        while configuration.changed().await.is_ok() {
            let next = configuration.borrow_and_update().clone();
            if (&next.publishes, &next.schemas) != (&current.publishes, &current.schemas) {
                door.send_replace(Arc::new(Self::new(&next)));
            }
            current = next;
        }
    }

    /// Lets an event pass, or says why not.
    pub(crate) fn check(&self, event: &Event) -> Result<(), Refused> {
        let event_type = event.event_type();
        let schema = match self.types.get(event_type) {
            None => return Err(Refused::Type(event_type.clone())),
            Some(None) => return Ok(()),
            Some(Some(Err(error))) => {
                return Err(Refused::InvalidSchema(event_type.clone(), error.clone()));
            }
            Some(Some(Ok(schema))) => schema,
        };
        let not_json = |cause: String| Refused::NotJson(event_type.clone(), cause);
        match event.attribute(DATA_CONTENT_TYPE) {
            Some(content_type) if !structured::is_json(content_type) => {
                return Err(not_json(format!("its content type is {content_type}")));
            }
            _ => {}
        }
        let data: Value =
            serde_json::from_slice(event.data()).map_err(|error| not_json(error.to_string()))?;
        schema.check(&data).map_err(|cause| Refused::Schema(event_type.clone(), cause))
    }
}
