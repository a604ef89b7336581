//! The claim of a service's data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};

use super::{Storage, ValidMicroservice, metadata};
use crate::labels;

/// The claim, if the service keeps data at /data.
pub(super) fn claim(service: &ValidMicroservice) -> Option<PersistentVolumeClaim> {
    let storage = service.storage.as_ref()?;
    Some(of(service, labels::data_claim(&service.name), storage))
}

/// A claim. It has no owner, and so outlives its Microservice, unless it is to
/// be deleted with it.
pub(crate) fn of(service: &ValidMicroservice, name: String, storage: &Storage) -> PersistentVolumeClaim {
    let mut metadata = metadata(service, name);
    if !storage.delete_with_service {
        metadata.owner_references = None;
    }
    PersistentVolumeClaim {
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
    }
}
