//! How far the database is, beside what the broker counts as acknowledged.

use super::Verified;
use crate::deliver::barrier::Look;
use crate::deliver::subscription::Subscription;

impl Subscription {
    /// This replica applies from now on; another may have before.
    pub(in crate::deliver::subscription) fn begins(&mut self, look: &Look) {
        if let Some(projecting) = &mut self.projecting {
            projecting.acknowledged = projecting.acknowledged.max(look.acknowledged());
            projecting.forget();
            projecting.verified = Verified::Asked;
        }
    }

    /// The broker says how far the durable is.
    pub(in crate::deliver::subscription) fn rests(&mut self, index: usize, look: &Look) {
        let idle = self.pulls[index].held == 0;
        let rewound = self.runner.rewound;
        let Some(projecting) = &mut self.projecting else { return };
        projecting.drained = idle && look.is_drained();
        if !projecting.drained {
            return;
        }
        projecting.moved = false;
        match (projecting.verified, &projecting.standing) {
            (Verified::Yes, _) => projecting.follow = Some(look.acknowledged()),
            (Verified::No | Verified::Asked, standing) => {
                projecting.acknowledged = projecting.acknowledged.max(look.acknowledged());
                let position = standing.as_ref().map(|standing| standing.position);
                match position {
                    Some(position) if projecting.is_behind(position, rewound) => {
                        projecting.forget();
                        projecting.verified = Verified::Asked;
                    }
                    Some(position) => {
                        projecting.verified = Verified::Yes;
                        projecting.acknowledged = position;
                        projecting.follow = Some(look.acknowledged());
                    }
                    // It is compared once the database is open.
                    None => projecting.verified = Verified::Asked,
                }
            }
        }
    }
}
