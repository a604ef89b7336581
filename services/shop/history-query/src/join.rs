//! Joins the parts of a `UserProductQuery`: pure.

use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ask::Part;

/// A product that a user ordered; without title and image when `products` did not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

#[derive(Deserialize)]
struct Order {
    product: u64,
}

/// What comes of the parts.
#[derive(Debug, PartialEq)]
pub enum Joined {
    /// The products in the order of purchase, and who did not tell its part.
    History { products: Vec<Product>, missing: Vec<&'static str> },
    /// `users` knows of no such user.
    NoSuchUser,
    /// Too little was told, for this reason.
    Unavailable(String),
}

/// Joins what the services told.
pub fn join(user: u64, parts: &[Part]) -> Joined {
    let of = |service: &str| parts.iter().find(|part| part.service == service);
    if of("users").and_then(|part| part.status) == Some(404) {
        return Joined::NoSuchUser;
    }
    let known = of("users").and_then(data::<serde_json::Value>);
    let orders = of("orders").and_then(data::<Vec<Order>>);
    let products = of("products").and_then(data::<Vec<Product>>);

    let told = [("users", known.is_some()), ("orders", orders.is_some()), ("products", products.is_some())];
    let missing: Vec<_> = told.into_iter().filter(|(_, told)| !told).map(|(service, _)| service).collect();
    let products = match (orders, products) {
        (Some(orders), Some(products)) => in_order(&orders, products),
        (Some(orders), None) => ids(&orders).map(|id| Product { id, title: None, image: None }).collect(),
        (None, Some(products)) => products,
        (None, None) => {
            return Joined::Unavailable(format!(
                "user {user}: no part of the history from {}",
                missing.join(", ")
            ));
        }
    };
    Joined::History { products, missing }
}

/// A part that was told, and is what it should be.
fn data<T: DeserializeOwned>(part: &Part) -> Option<T> {
    let answered = part.outcome == "answered" && part.status.is_none_or(|status| status < 300);
    answered.then(|| T::deserialize(&part.data).ok()).flatten()
}

/// What was ordered, each product once, in the order of purchase.
fn ids(orders: &[Order]) -> impl Iterator<Item = u64> {
    let mut seen = HashSet::new();
    orders.iter().map(|order| order.product).filter(move |id| seen.insert(*id))
}

/// The products by their orders. An order whose product is not known yet shows up once it is.
fn in_order(orders: &[Order], products: Vec<Product>) -> Vec<Product> {
    let mut by_id: HashMap<_, _> = products.into_iter().map(|product| (product.id, product)).collect();
    ids(orders).filter_map(|id| by_id.remove(&id)).collect()
}
