//! Whose object is it? Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::discovery::ApiResource;
use murmur_crds::Microservice;
use murmur_plan::labels::{MANAGED_BY, MANAGER, MICROSERVICE};

use super::apply::ApplyError;

/// The Microservice whose objects are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its uid: a name can be used again, a uid never.
    pub uid: String,
    /// Its name.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
}

impl Owner {
    /// Whether an object is this Microservice's: its controller owner is this
    /// very one; or, for what is kept and so outlives its Microservice, it bears
    /// its label and ours and no other controller.
    pub fn owns(&self, object: &ObjectMeta, is_kept: bool) -> bool {
        match controller(object) {
            Some(controller) => controller.uid == self.uid,
            None if is_kept => {
                let label = |name: &str| object.labels.as_ref().and_then(|labels| labels.get(name));
                label(MICROSERVICE) == Some(&self.service)
                    && label(MANAGED_BY).is_some_and(|found| found == MANAGER)
            }
            None => false,
        }
    }

    /// Refuses what is not this Microservice's.
    ///
    /// # Errors
    /// [`ApplyError::LeftOver`] for what belongs to one that had its name before it, else [`ApplyError::NameTaken`].
    pub fn must_own(
        &self,
        resource: &ApiResource,
        name: &str,
        object: &ObjectMeta,
        is_kept: bool,
    ) -> Result<(), ApplyError> {
        if self.owns(object, is_kept) {
            return Ok(());
        }
        let (kind, name) = (resource.kind.clone(), name.to_owned());
        let is_left_over = controller(object).is_some_and(|controller| {
            controller.kind == Microservice::kind(&()) && controller.name == self.service
        });
        Err(if is_left_over {
            ApplyError::LeftOver { kind, name }
        } else {
            ApplyError::NameTaken { kind, name }
        })
    }
}

fn controller(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;

    use super::*;

    fn object(uid: Option<&str>, labelled: bool) -> ObjectMeta {
        let owner = uid.map(|uid| OwnerReference {
            uid: uid.to_owned(),
            kind: "Microservice".to_owned(),
            name: "users".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        });
        let labels = labelled.then(|| {
            [(MICROSERVICE, "users"), (MANAGED_BY, MANAGER)].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        });
        ObjectMeta { owner_references: owner.map(|owner| vec![owner]), labels, ..ObjectMeta::default() }
    }

    #[test]
    fn a_label_alone_makes_an_object_ours_only_when_it_is_kept() {
        let owner = Owner { uid: "1".to_owned(), service: "users".to_owned(), namespace: "shop".to_owned() };
        assert!(owner.owns(&object(Some("1"), true), false));
        assert!(!owner.owns(&object(Some("2"), true), false));
        assert!(!owner.owns(&object(None, true), false));
        assert!(owner.owns(&object(None, true), true));
        assert!(!owner.owns(&object(None, false), true));
        assert!(!owner.owns(&object(Some("2"), true), true));
    }

    #[test]
    fn what_a_deleted_service_of_the_same_name_has_left_is_told_from_what_is_anothers() {
        let owner = Owner { uid: "1".to_owned(), service: "users".to_owned(), namespace: "shop".to_owned() };
        let secret = ApiResource::erase::<Secret>(&());
        let verdict = |object: &ObjectMeta| owner.must_own(&secret, "users-sidecar", object, false);
        assert!(verdict(&object(Some("1"), true)).is_ok());
        assert!(matches!(verdict(&object(Some("2"), true)), Err(ApplyError::LeftOver { .. })));
        assert!(matches!(verdict(&object(None, true)), Err(ApplyError::NameTaken { .. })));
        let mut anothers = object(Some("2"), true);
        for reference in anothers.owner_references.iter_mut().flatten() {
            "orders".clone_into(&mut reference.name);
        }
        assert!(matches!(verdict(&anothers), Err(ApplyError::NameTaken { .. })));
    }
}
