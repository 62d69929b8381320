//! When each client was last seen by this instance, from where, and what it has read: a request writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::Duration;

use crate::clock::Timestamp;
use crate::id::ClientId;

/// When and from where a client was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LastUse {
    pub at: Timestamp,
    pub address: Option<IpAddr>,
}

/// Addresses that are remembered of one client, and things that it has read: an event holds no more.
const MAX_ADDRESSES: usize = 100;
const MAX_SUBJECTS: usize = 1_000;

/// Bytes of all these things, with what JSON and CSV put around each: a spreadsheet's cell has 32,767.
const MAX_BYTES: usize = 20_000;
const AROUND: usize = 5;

/// With so many things, or so many bytes of them, it is written down before the hour is over.
const MANY_SUBJECTS: usize = 300;
const MANY_BYTES: usize = 10_000;

/// What a client has read of a route.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteReads {
    pub count: u64,
    /// What the path or the query named.
    pub subjects: BTreeSet<String>,
    /// Whether there was more than is remembered.
    pub is_cut: bool,
}

/// What a client has read since a time.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    pub since: Timestamp,
    pub addresses: BTreeSet<IpAddr>,
    pub routes: BTreeMap<String, RouteReads>,
    /// Number of the things that are remembered, and their bytes.
    subjects: usize,
    bytes: usize,
}

/// What an instance remembers until it is written down.
#[derive(Default)]
pub(crate) struct ClientUses {
    seen: Mutex<HashMap<ClientId, LastUse>>,
    reads: Mutex<HashMap<ClientId, Reads>>,
}

impl ClientUses {
    /// Notes that a client was authenticated. Who has a [`LiveClient`](super::LiveClient) asks it before.
    pub(crate) fn note(&self, id: &ClientId, seen: LastUse) {
        held(&self.seen).insert(id.clone(), seen);
    }

    /// When and from where a client was last seen here.
    pub(crate) fn of(&self, id: &ClientId) -> Option<LastUse> {
        held(&self.seen).get(id).copied()
    }

    /// What is remembered, of all clients.
    pub(crate) fn all(&self) -> Vec<(ClientId, LastUse)> {
        held(&self.seen).iter().map(|(id, seen)| (id.clone(), *seen)).collect()
    }

    /// Forgets what is older, and written down: there it is erased when its time is over.
    pub(crate) fn forget_before(&self, time: Timestamp) {
        held(&self.seen).retain(|_, seen| seen.at >= time);
    }

    /// Counts what a client has read.
    pub(crate) fn read(&self, id: &ClientId, route: &str, subject: Option<&str>, seen: LastUse) {
        let mut all = held(&self.reads);
        if !all.contains_key(id) {
            let (addresses, routes) = (BTreeSet::new(), BTreeMap::new());
            all.insert(id.clone(), Reads { since: seen.at, addresses, routes, subjects: 0, bytes: 0 });
        }
        let Some(reads) = all.get_mut(id) else { return };
        if reads.addresses.len() < MAX_ADDRESSES {
            reads.addresses.extend(seen.address);
        }
        let has_room = reads.has_room(subject);
        if !reads.routes.contains_key(route) {
            reads.routes.insert(route.to_owned(), RouteReads::default());
        }
        let Some(of_route) = reads.routes.get_mut(route) else { return };
        of_route.count += 1;
        if let Some(subject) = subject
            && !of_route.subjects.contains(subject)
        {
            of_route.is_cut |= !has_room;
            if has_room {
                of_route.subjects.insert(subject.to_owned());
                reads.subjects += 1;
                reads.bytes += size(subject);
            }
        }
    }

    /// Takes what clients have read, if that began at least so long ago or is much; at most `limit` clients.
    pub(crate) fn take_reads(&self, age: Duration, limit: usize, now: Timestamp) -> Vec<(ClientId, Reads)> {
        let mut all = held(&self.reads);
        let is_due = |reads: &Reads| !now.last(age).contains(reads.since) || reads.is_much();
        let due: Vec<ClientId> =
            all.iter().filter(|(_, reads)| is_due(reads)).map(|(id, _)| id.clone()).take(limit).collect();
        due.into_iter().filter_map(|id| all.remove_entry(&id)).collect()
    }

    /// Puts back what could not be written down.
    pub(crate) fn put_back(&self, taken: Vec<(ClientId, Reads)>) {
        let mut all = held(&self.reads);
        for (id, before) in taken {
            match all.get_mut(&id) {
                None => drop(all.insert(id, before)),
                Some(reads) => reads.add(before),
            }
        }
    }
}

impl Reads {
    fn is_much(&self) -> bool {
        self.subjects >= MANY_SUBJECTS || self.bytes >= MANY_BYTES
    }

    fn has_room(&self, subject: Option<&str>) -> bool {
        self.subjects < MAX_SUBJECTS && self.bytes + subject.map_or(0, size) <= MAX_BYTES
    }

    fn add(&mut self, before: Self) {
        self.since = self.since.min(before.since);
        self.addresses.extend(before.addresses.into_iter().take(MAX_ADDRESSES.saturating_sub(self.addresses.len())));
        for (route, reads) in before.routes {
            let mut known = self.routes.remove(&route).unwrap_or_default();
            known.count += reads.count;
            known.is_cut |= reads.is_cut;
            for subject in reads.subjects {
                if known.subjects.contains(&subject) {
                    continue;
                }
                if self.has_room(Some(&subject)) {
                    self.subjects += 1;
                    self.bytes += size(&subject);
                    known.subjects.insert(subject);
                } else {
                    known.is_cut = true;
                }
            }
            self.routes.insert(route, known);
        }
    }
}

/// Bytes of a thing in an event, or in a cell.
const fn size(subject: &str) -> usize {
    subject.len() + AROUND
}

fn held<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "/v1/magic-links/{id}";

    #[test]
    fn what_is_much_is_taken_early_and_what_is_too_much_is_counted() {
        let (uses, now) = (ClientUses::default(), Timestamp::from_unix_micros(1_000_000));
        let id = ClientId::new(now);
        let seen = LastUse { at: now, address: Some(IpAddr::from([203, 0, 113, 7])) };
        uses.read(&id, ROUTE, Some("one"), seen);
        uses.read(&id, ROUTE, Some("one"), seen);
        assert!(uses.take_reads(Duration::HOUR, 10, now).is_empty());
        for number in 0..MAX_SUBJECTS {
            uses.read(&id, ROUTE, Some(&number.to_string()), seen);
        }
        let taken = uses.take_reads(Duration::HOUR, 10, now);
        let of_route = &taken.first().unwrap().1.routes[ROUTE];
        assert_eq!((of_route.count, of_route.subjects.len(), of_route.is_cut), (1_002, MAX_SUBJECTS, true));

        // What could not be written down comes back, beside what was read meanwhile.
        uses.read(&id, ROUTE, Some("one"), seen);
        uses.put_back(taken);
        let taken = uses.take_reads(Duration::HOUR, 10, now);
        let of_route = &taken.first().unwrap().1.routes[ROUTE];
        assert_eq!((of_route.count, of_route.subjects.len(), of_route.is_cut), (1_003, MAX_SUBJECTS, true));
        assert!(uses.take_reads(Duration::ZERO, 10, now).is_empty());
    }

    #[test]
    fn what_is_read_fits_into_a_cell() {
        let (uses, now) = (ClientUses::default(), Timestamp::from_unix_micros(1_000_000));
        let (id, seen) = (ClientId::new(now), LastUse { at: now, address: None });
        for number in 0..200 {
            uses.read(&id, ROUTE, Some(&format!("{number}{}", "é".repeat(120))), seen);
        }
        let taken = uses.take_reads(Duration::HOUR, 10, now);
        uses.read(&id, ROUTE, Some("one more"), seen);
        uses.put_back(taken);
        let taken = uses.take_reads(Duration::HOUR, 10, now);
        let of_route = &taken.first().unwrap().1.routes[ROUTE];
        let bytes: usize = of_route.subjects.iter().map(|subject| size(subject)).sum();
        assert!((15_000..=MAX_BYTES).contains(&bytes), "{bytes}");
        assert_eq!((of_route.count, of_route.is_cut), (201, true));
    }

    #[test]
    fn what_is_written_down_is_forgotten_when_it_is_older() {
        let (uses, now) = (ClientUses::default(), Timestamp::from_unix_micros(1_000_000));
        let (one, other) = (ClientId::new(now), ClientId::new(now.plus(Duration::MINUTE)));
        uses.note(&one, LastUse { at: now, address: None });
        uses.note(&other, LastUse { at: now.plus(Duration::MINUTE), address: None });
        uses.forget_before(now.plus(Duration::SECOND));
        assert_eq!((uses.of(&one), uses.all().len()), (None, 1));
    }
}
