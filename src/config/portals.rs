//! Settings of portals.

use std::collections::{BTreeMap, BTreeSet};

use figment::value::Value;
use url::Url;

use super::Portal;
use super::reader::{Reader, is_loopback_url};

impl Reader<'_> {
    pub(super) fn portals(&mut self, public_url: &str) -> BTreeMap<String, Portal> {
        let ids: Vec<String> = match self.root.get("portals").and_then(Value::as_dict) {
            Some(portals) => portals.keys().cloned().collect(),
            None if is_loopback_url(public_url) => vec!["cloud".into(), "ess".into()],
            None => Vec::new(),
        };
        if ids.is_empty() {
            self.problem("portals", "name at least one: [portals.cloud] with callback_url and audience");
        }
        let mut audiences = BTreeSet::new();
        let mut portals = BTreeMap::new();
        for id in ids {
            let portal = self.portal(&id, public_url);
            if !portal.audience.is_empty() && !audiences.insert(portal.audience.clone()) {
                self.problem(
                    &format!("portals.{id}.audience"),
                    "is the audience of another portal, which would accept its tokens",
                );
            }
            portals.insert(id, portal);
        }
        portals
    }

    fn portal(&mut self, id: &str, public_url: &str) -> Portal {
        let key = |field: &str| format!("portals.{id}.{field}");
        if !crate::domain::is_portal_id(id) {
            self.problem(&format!("portals.{id}"), "an id has 1 to 32 characters of a-z, 0-9 and -");
        }
        // The example portal of this repository, for a first run on one machine.
        let example = (is_loopback_url(public_url) && matches!(id, "cloud" | "ess")).then(|| {
            (format!("http://127.0.0.1:8081/{{tenant_id}}/{id}/callback"), format!("http://127.0.0.1:8081/{id}"))
        });
        let (callback, audience) = example.unzip();
        let mut or = |field: &str, example: Option<String>| match example {
            Some(example) => Some(self.or(&key(field), &example)),
            None => self.optional(&key(field)),
        };
        let (callback_url, audience) = (or("callback_url", callback), or("audience", audience));
        let name = match id {
            "cloud" => "Cloud",
            "ess" => "ESS",
            other => other,
        };
        let portal = Portal {
            name: self.text(&key("name"), name),
            audience: self.required(&key("audience"), audience),
            callback_url: self.required(&key("callback_url"), callback_url),
            landing_url: self.optional(&key("landing_url")),
            manage_url: self.optional(&key("manage_url")),
            step_up: self.parsed(&key("step_up"), "none"),
        };
        self.check_address(&key("callback_url"), &portal.callback_url);
        if let Some(landing_url) = &portal.landing_url {
            self.check_address(&key("landing_url"), landing_url);
        }
        if let Some(manage_url) = &portal.manage_url {
            self.check_address(&key("manage_url"), manage_url);
        }
        portal
    }

    /// Checks a URL that visitors are sent to, with `{tenant_id}` filled in.
    fn check_address(&mut self, key: &str, address: &str) {
        if address.is_empty() {
            return;
        }
        self.check_characters(key);
        let example = address.replace("{tenant_id}", "acme");
        let private = is_loopback_url(&example);
        match Url::parse(&example) {
            Ok(url) if (url.scheme() == "https" || (url.scheme() == "http" && private))
                && url.fragment().is_none() && url.username().is_empty() && !example.contains(['{', '}']) => {}
            _ => self.problem(
                key,
                "must be an https address (http on loopback) without fragment; it may hold {tenant_id} and no other braces",
            ),
        }
    }
}
