//! Places for connections: how many an address may have, and all of them together.
//!
//! Each connection is a file of the process, as those of the database are: a process
//! that may open no more files answers nobody. So there are only so many places. When
//! all are taken, an idle connection of the address that has most makes room for one
//! that has fewer.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use ipnet::IpNet;

use crate::http::network;
use crate::metrics::Metrics;

/// Shortest time between two warnings about refused connections.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// How many connections there may be.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub in_all: usize,
    /// Largest number for an address; 0 is no limit.
    pub per_address: u32,
    /// They have no limit of their own, and none of their connections is ended for another.
    pub trusted_proxies: Vec<IpNet>,
}

/// The places of one listener.
pub(super) struct Places {
    bounds: Bounds,
    open: Mutex<Open>,
    metrics: Metrics,
}

#[derive(Default)]
struct Open {
    in_all: usize,
    /// Those of each network but the trusted ones, the oldest first.
    by_network: HashMap<IpAddr, BTreeMap<u64, Arc<Seat>>>,
    next: u64,
    warned_at: Option<Instant>,
}

/// What is known of a connection from outside of it.
#[derive(Default)]
struct Seat {
    is_busy: AtomicBool,
    must_go: AtomicBool,
    waker: AtomicWaker,
}

impl Places {
    pub(super) fn new(bounds: Bounds, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self { bounds, open: Mutex::default(), metrics: metrics.clone() })
    }

    /// A place for a connection of this address; `None` if there is none.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let is_trusted = self.bounds.trusted_proxies.iter().any(|network| network.contains(&address));
        let counted = (!is_trusted).then(|| network(address));
        let mut open = self.open();
        let own = counted.and_then(|network| open.by_network.get(&network)).map_or(0, BTreeMap::len);
        let limit = usize::try_from(self.bounds.per_address).unwrap_or(usize::MAX);
        let has_too_many = !is_trusted && limit > 0 && own >= limit;
        if has_too_many || (open.in_all >= self.bounds.in_all && !open.make_room(counted.map(|_| own))) {
            self.metrics.connections_ended.with_label_values(&["too_many"]).inc();
            if open.warned_at.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                open.warned_at = Some(Instant::now());
                drop(open);
                warn(has_too_many, address);
            }
            return None;
        }
        let (seat, number) = (Arc::<Seat>::default(), open.next);
        open.next += 1;
        open.in_all += 1;
        if let Some(network) = counted {
            open.by_network.entry(network).or_default().insert(number, Arc::clone(&seat));
        }
        drop(open);
        self.metrics.open_connections.inc();
        Some(Place { places: Arc::clone(self), seat, counted: counted.map(|network| (network, number)) })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn(has_too_many: bool, address: IpAddr) {
    if has_too_many {
        tracing::warn!(
            peer.address = %address,
            "an address has too many connections; a proxy belongs into `limits.trusted_proxies`"
        );
    } else {
        tracing::warn!(
            peer.address = %address,
            "there are as many connections as this process may have beside its database: let it open more files"
        );
    }
}

impl Open {
    /// Ends an idle connection of the network that has most; `false` if it has none, or no more than the one that asks
    /// would have. Who is trusted always has fewer.
    fn make_room(&mut self, own: Option<usize>) -> bool {
        let most = self.by_network.values().map(BTreeMap::len).max().unwrap_or(0);
        if own.is_some_and(|own| most <= own + 1) {
            return false;
        }
        let idle = self.by_network.values_mut().filter(|seats| seats.len() == most).find_map(|seats| {
            let idle =
                seats.iter().find(|(_, seat)| !seat.is_busy.load(Ordering::SeqCst)).map(|(number, _)| *number)?;
            seats.remove(&idle)
        });
        let Some(idle) = idle else { return false };
        self.in_all -= 1;
        idle.must_go.store(true, Ordering::SeqCst);
        idle.waker.wake();
        true
    }
}

/// A counted connection, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    seat: Arc<Seat>,
    /// The network that it is counted for, and its number.
    counted: Option<(IpAddr, u64)>,
}

impl Place {
    /// Whether a request of the connection is being answered.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.seat.is_busy.store(is_busy, Ordering::SeqCst);
    }

    /// Whether the connection, which is idle, must make room; if not now, the waker hears of it.
    pub(super) fn must_go(&self, waker: &Waker) -> bool {
        self.seat.waker.register(waker);
        self.seat.must_go.load(Ordering::SeqCst)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.places.metrics
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.metrics.open_connections.dec();
        let mut open = self.places.open();
        let Some((network, number)) = self.counted else {
            open.in_all -= 1;
            return;
        };
        let Some(seats) = open.by_network.get_mut(&network) else { return };
        // One that made room is counted no more.
        let was_counted = seats.remove(&number).is_some();
        if seats.is_empty() {
            open.by_network.remove(&network);
        }
        open.in_all -= usize::from(was_counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(in_all: usize, per_address: u32) -> Arc<Places> {
        let bounds = Bounds { in_all, per_address, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        Places::new(bounds, &Metrics::new().unwrap())
    }

    fn taken(places: &Arc<Places>, address: &str, number: usize) -> Vec<Place> {
        (0..number).filter_map(|_| places.take(address.parse().unwrap())).collect()
    }

    fn ended(places: &[Place]) -> usize {
        places.iter().filter(|place| place.must_go(Waker::noop())).count()
    }

    #[test]
    fn an_address_has_its_own_limit_and_a_trusted_proxy_none() {
        let places = places(100, 3);
        assert_eq!(taken(&places, "192.0.2.1", 5).len(), 3);
        let (_mine, _others) = (taken(&places, "192.0.2.1", 3), taken(&places, "192.0.2.2", 1));
        assert_eq!(taken(&places, "192.0.2.1", 1).len(), 0);
        assert_eq!(taken(&places, "10.1.2.3", 50).len(), 50);
    }

    #[test]
    fn who_has_most_makes_room_for_who_has_fewer() {
        let places = places(10, 0);
        let (many, some) = (taken(&places, "192.0.2.1", 6), taken(&places, "192.0.2.2", 4));
        assert_eq!(taken(&places, "192.0.2.1", 1).len(), 0, "not for the own");
        let fresh = taken(&places, "192.0.2.3", 1);
        assert_eq!((fresh.len(), ended(&many), ended(&some)), (1, 1, 0));
        assert!(many[0].must_go(Waker::noop()), "the oldest");
        let trusted = taken(&places, "10.1.2.3", 1);
        assert_eq!((trusted.len(), ended(&many), ended(&some), ended(&trusted)), (1, 2, 0, 0));
        drop((many, some, fresh, trusted));
        assert_eq!(places.open().in_all, 0);
        assert!(places.open().by_network.is_empty());
    }

    #[test]
    fn nobody_makes_room_while_a_request_is_answered() {
        let places = places(4, 0);
        let many = taken(&places, "192.0.2.1", 4);
        for place in &many {
            place.set_busy(true);
        }
        assert_eq!(taken(&places, "192.0.2.2", 1).len(), 0);
        many[2].set_busy(false);
        assert_eq!(taken(&places, "192.0.2.2", 1).len(), 1);
        assert!(many[2].must_go(Waker::noop()));
    }
}
