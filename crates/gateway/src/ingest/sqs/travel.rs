//! Until `aws::travel` is there.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::aws::queues::{Incoming, Value};

pub(super) fn arrive(incoming: &Incoming) -> (Bytes, BTreeMap<String, String>) {
    let mut attributes = BTreeMap::new();
    for attribute in &incoming.attributes {
        if let Value::Text(text) = &attribute.value {
            attributes.insert(attribute.name.clone(), text.clone());
        }
    }
    (incoming.body.clone().into(), attributes)
}
