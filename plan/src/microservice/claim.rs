//! The claim of a service's data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};

use super::{ValidMicroservice, metadata};
use crate::labels;

/// The claim, if the service keeps data. It has no owner, and so outlives its
/// Microservice, unless it is to be deleted with it.
pub(super) fn claim(service: &ValidMicroservice) -> Option<PersistentVolumeClaim> {
    let storage = service.storage.as_ref()?;
    let mut metadata = metadata(service, labels::data_claim(&service.name));
    if !storage.delete_with_service {
        metadata.owner_references = None;
    }
    Some(PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), storage.size.clone())])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
