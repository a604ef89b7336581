//! Which generation a configuration has, and whether it must be published. Pure.

use murmur_mesh::config::SidecarConfig;

use crate::bus::Published;

/// What is to be done about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    /// The configuration for the ConfigMap, without the JWT.
    pub(super) config: SidecarConfig,
    /// The one to publish, with the JWT, when the bus lacks it.
    pub(super) publish: Option<SidecarConfig>,
}

/// Settles the generation of `planned`, whose own is of no account.
///
/// `told` is what the ConfigMap holds; `published` what the bus holds, `None`
/// while it cannot be asked. A generation that was given to something else is
/// never used again, so that of two configurations the higher is the newer one.
pub(super) fn settle(
    planned: &SidecarConfig,
    jwt: &str,
    told: Option<&SidecarConfig>,
    published: Option<&Published>,
) -> Settled {
    let with = |generation: u64, user_jwt: Option<&str>| SidecarConfig {
        generation,
        user_jwt: user_jwt.map(str::to_owned),
        ..planned.clone()
    };
    let on_bus = match published {
        Some(Published::Config(config)) => Some(&**config),
        _ => None,
    };
    let told_same = told.filter(|told| **told == with(told.generation, None));
    let bus_same = on_bus.filter(|found| **found == with(found.generation, Some(jwt)));
    let highest = told.into_iter().chain(on_bus).map(|config| config.generation).max().unwrap_or(0);
    let generation = match (told_same, bus_same, published) {
        // Both hold it: the bus may be ahead, when only the JWT changed there.
        (Some(told), Some(bus), _) if bus.generation >= told.generation => told.generation,
        // The ConfigMap holds it; the bus cannot be asked, or is behind, as after a crash between the two.
        (Some(told), _, None) => told.generation,
        (Some(told), None, Some(_)) if on_bus.is_none_or(|found| found.generation < told.generation) => {
            told.generation
        }
        // The ConfigMap is behind, as when it was removed.
        (None, Some(bus), _)
            if bus.generation >= highest && told.is_none_or(|told| told.generation < highest) =>
        {
            bus.generation
        }
        _ => highest.saturating_add(1),
    };
    let needed = published.is_some() && bus_same.is_none_or(|found| found.generation < generation);
    Settled { config: with(generation, None), publish: needed.then(|| with(generation, Some(jwt))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use murmur_mesh::config::LogLevel;

    use super::*;

    fn config(generation: u64, log_level: LogLevel) -> SidecarConfig {
        SidecarConfig {
            generation,
            service: "users".parse().unwrap(),
            mesh: "shop".parse().unwrap(),
            event_store: None,
            publishes: vec![],
            schemas: BTreeMap::new(),
            subscriptions: vec![],
            answers: vec![],
            asks: vec![],
            calls: vec![],
            outbox: false,
            log_level,
            user_jwt: None,
        }
    }

    fn on_bus(generation: u64, log_level: LogLevel, jwt: &str) -> Published {
        Published::Config(Box::new(SidecarConfig {
            user_jwt: Some(jwt.to_owned()),
            ..config(generation, log_level)
        }))
    }

    const NEW: LogLevel = LogLevel::Info;
    const OLD: LogLevel = LogLevel::Debug;

    #[allow(clippy::needless_pass_by_value)]
    fn settled(told: Option<SidecarConfig>, published: Option<Published>) -> (u64, Option<u64>) {
        let settled = settle(&config(0, NEW), "jwt", told.as_ref(), published.as_ref());
        (settled.config.generation, settled.publish.map(|config| config.generation))
    }

    #[test]
    fn the_first_configuration_is_the_first_generation() {
        assert_eq!(settled(None, None), (1, None));
        assert_eq!(settled(None, Some(Published::Nothing)), (1, Some(1)));
    }

    #[test]
    fn nothing_is_done_when_both_hold_it() {
        assert_eq!(settled(Some(config(3, NEW)), Some(on_bus(3, NEW, "jwt"))), (3, None));
        assert_eq!(settled(Some(config(3, NEW)), Some(on_bus(4, NEW, "jwt"))), (3, None));
        assert_eq!(settled(Some(config(3, NEW)), None), (3, None));
    }

    #[test]
    fn a_change_is_newer_than_everything_there() {
        assert_eq!(settled(Some(config(3, OLD)), Some(on_bus(3, OLD, "jwt"))), (4, Some(4)));
        assert_eq!(settled(Some(config(3, OLD)), Some(on_bus(7, OLD, "jwt"))), (8, Some(8)));
        assert_eq!(settled(Some(config(3, OLD)), None), (4, None));
        assert_eq!(settled(None, Some(on_bus(7, OLD, "jwt"))), (8, Some(8)));
    }

    #[test]
    fn new_permissions_alone_are_a_change_on_the_bus() {
        assert_eq!(settled(Some(config(3, NEW)), Some(on_bus(3, NEW, "old"))), (4, Some(4)));
    }

    #[test]
    fn a_crash_between_the_two_is_made_good_with_the_same_generation() {
        assert_eq!(settled(Some(config(4, NEW)), Some(on_bus(3, OLD, "jwt"))), (4, Some(4)));
        assert_eq!(settled(Some(config(4, NEW)), Some(Published::Nothing)), (4, Some(4)));
        assert_eq!(settled(None, Some(on_bus(7, NEW, "jwt"))), (7, None));
    }

    #[test]
    fn a_generation_is_never_used_for_two_things() {
        // The bus holds another one of the same generation.
        assert_eq!(settled(Some(config(4, NEW)), Some(on_bus(4, OLD, "jwt"))), (5, Some(5)));
        // The bus holds it under an older generation than the ConfigMap's other one.
        assert_eq!(settled(Some(config(5, OLD)), Some(on_bus(4, NEW, "jwt"))), (6, Some(6)));
    }
}
