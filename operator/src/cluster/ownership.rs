//! Whose object is it? Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use murmur_plan::labels::{MANAGED_BY, MANAGER, MICROSERVICE};

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
        let controller = object
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| owner.uid.as_str());
        match controller {
            Some(uid) => uid == self.uid,
            None if is_kept => {
                let label = |name: &str| object.labels.as_ref().and_then(|labels| labels.get(name));
                label(MICROSERVICE) == Some(&self.service)
                    && label(MANAGED_BY).is_some_and(|found| found == MANAGER)
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn object(uid: Option<&str>, labelled: bool) -> ObjectMeta {
        let owner = uid.map(|uid| OwnerReference {
            uid: uid.to_owned(),
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
}
