//! Which endpoints may be called now: those that do not answer take no call away from those that do.

use std::collections::{HashMap, HashSet};

use url::Url;

use crate::id::{ClientId, EndpointId};
use crate::webhooks::ReadyEndpoint;

/// Largest number of endpoints that are called at the same time.
const AT_ONCE: usize = 64;

/// Of these, the endpoints of one client, or of the clients of one tenant: a quarter.
const OF_ONE_OWNER: usize = AT_ONCE / 4;

/// Of these, endpoints that are not known to answer promptly: a half.
const SLOW: usize = AT_ONCE / 2;

/// Of these, endpoints at one host that is not known to answer promptly.
const SLOW_OF_A_HOST: usize = 8;

/// Number of prompt endpoints and hosts that are remembered; without memory they only get fewer calls for a while.
const REMEMBERED: usize = 20_000;

/// The calls that are under way, and who answered the last one promptly.
#[derive(Debug, Default)]
pub(super) struct Calls {
    running: HashMap<EndpointId, Call>,
    prompt: HashSet<EndpointId>,
    prompt_hosts: HashSet<String>,
}

#[derive(Debug)]
struct Call {
    client: ClientId,
    tenants: Vec<String>,
    host: String,
    is_prompt: bool,
}

impl Calls {
    /// Begins to call an endpoint if it is its turn; whether it is known to answer promptly.
    pub(super) fn begin(&mut self, endpoint: &ReadyEndpoint) -> Option<bool> {
        if self.running.len() >= AT_ONCE || self.running.contains_key(&endpoint.id) {
            return None;
        }
        let call = Call {
            client: endpoint.client_id.clone(),
            tenants: endpoint.tenants.split_whitespace().map(ToOwned::to_owned).collect(),
            host: host_of(&endpoint.url),
            is_prompt: self.prompt.contains(&endpoint.id),
        };
        let of_client = self.count(|other| other.client == call.client);
        let of_tenant = call.tenants.iter().map(|tenant| self.count(|other| other.tenants.contains(tenant))).max();
        if of_client >= OF_ONE_OWNER || of_tenant >= Some(OF_ONE_OWNER) {
            return None;
        }
        if !call.is_prompt {
            let of_host = self.count(|other| !other.is_prompt && other.host == call.host);
            let host_is_full = of_host >= SLOW_OF_A_HOST && !self.prompt_hosts.contains(&call.host);
            if host_is_full || self.count(|other| !other.is_prompt) >= SLOW {
                return None;
            }
        }
        let is_prompt = call.is_prompt;
        self.running.insert(endpoint.id.clone(), call);
        Some(is_prompt)
    }

    /// Ends a call, and notes whether the answer was prompt, if there was a message to send.
    pub(super) fn end(&mut self, endpoint: &EndpointId, was_prompt: Option<bool>) {
        let (Some(call), Some(was_prompt)) = (self.running.remove(endpoint), was_prompt) else { return };
        note(&mut self.prompt, endpoint.clone(), was_prompt);
        note(&mut self.prompt_hosts, call.host, was_prompt);
    }

    fn count(&self, of: impl Fn(&Call) -> bool) -> usize {
        self.running.values().filter(|call| of(call)).count()
    }
}

fn note<T: Eq + std::hash::Hash>(prompt: &mut HashSet<T>, one: T, was_prompt: bool) {
    if !was_prompt {
        prompt.remove(&one);
    } else {
        if prompt.len() >= REMEMBERED {
            prompt.clear();
        }
        prompt.insert(one);
    }
}

/// Host and port of an endpoint.
fn host_of(url: &str) -> String {
    let url = Url::parse(url).ok();
    let host = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default())));
    host.map_or_else(String::new, |(host, port)| format!("{host}:{}", port.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn endpoints(count: usize, client: &ClientId, tenants: &str, host: &str) -> Vec<ReadyEndpoint> {
        let one = |_| ReadyEndpoint {
            id: EndpointId::new(Clock::System.now()),
            client_id: client.clone(),
            tenants: tenants.to_owned(),
            url: format!("https://{host}/hook"),
        };
        (0..count).map(one).collect()
    }

    fn client() -> ClientId {
        ClientId::new(Clock::System.now())
    }

    fn begun(calls: &mut Calls, endpoints: &[ReadyEndpoint]) -> usize {
        endpoints.iter().filter(|one| calls.begin(one).is_some()).count()
    }

    /// Calls of endpoints that answer promptly from then on.
    fn proven(calls: &mut Calls, endpoints: &[ReadyEndpoint]) {
        for one in endpoints {
            assert_eq!(calls.begin(one), Some(false));
            calls.end(&one.id, Some(true));
        }
    }

    #[test]
    fn a_client_and_a_tenant_have_a_quarter_of_the_calls() {
        let mut calls = Calls::default();
        let one = client();
        let of_client = endpoints(40, &one, "acme globex", "one.example");
        proven(&mut calls, &of_client);
        assert_eq!(begun(&mut calls, &of_client), 16);
        let neighbour = endpoints(40, &client(), "acme", "two.example");
        assert_eq!(begun(&mut calls, &neighbour), 0, "another client of the same tenant");
        let other = endpoints(2, &client(), "initech", "three.example");
        assert_eq!(begun(&mut calls, &other), 2);
        assert_eq!(calls.begin(&other[0]), None, "one task for each endpoint");
    }

    #[test]
    fn those_that_do_not_answer_leave_half_of_the_calls_to_those_that_do() {
        let mut calls = Calls::default();
        let good = endpoints(1, &client(), "good", "good.example");
        proven(&mut calls, &good);
        let mut silent = 0;
        for tenant in 0..20 {
            let host = format!("{tenant}.example");
            silent += begun(&mut calls, &endpoints(20, &client(), &format!("t{tenant}"), &host));
        }
        assert_eq!(silent, 32);
        assert_eq!(calls.begin(&good[0]), Some(true));
        calls.end(&good[0].id, Some(false));
        assert_eq!(calls.begin(&good[0]), None, "it is slow itself");
    }

    #[test]
    fn a_host_that_does_not_answer_is_called_a_few_times_at_once() {
        let mut calls = Calls::default();
        let of = |tenant: &str| endpoints(4, &client(), tenant, "one.example");
        let (one, two, three) = (of("a"), of("b"), of("c"));
        assert_eq!((begun(&mut calls, &one), begun(&mut calls, &two), begun(&mut calls, &three)), (4, 4, 0));
        calls.end(&one[0].id, None);
        assert_eq!(begun(&mut calls, &three), 1);
        calls.end(&one[1].id, Some(true));
        assert_eq!(begun(&mut calls, &three), 3, "it answers");
    }
}
