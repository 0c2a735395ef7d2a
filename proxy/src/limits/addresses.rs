//! How much each client address asked for lately, for as many addresses as there is room.
//!
//! Must not know how a client's address is told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::network;

use super::window::{Age, Window};

/// Addresses in each of the two generations. Together they are the bound: 65,536 addresses, with at most 31 entries each,
/// which is below 64 MiB. Whoever has more addresses than that is not held by this limit, but by that of all together.
const GENERATION: usize = 32_768;

/// Requests of one address that are told apart; beyond, to a fifteenth of the window.
const EXACT: u32 = 15;

/// Windows of addresses, in two generations: who asks is in the younger one, and the older one goes as a whole. So what
/// goes is empty, or, when there are too many, was longest not asked for.
#[derive(Default)]
pub(super) struct Addresses {
    young: HashMap<IpAddr, Window>,
    old: HashMap<IpAddr, Window>,
    /// Since when the younger one is filled.
    since: Age,
}

/// What is to be dropped outside of the lock, since it may be large.
pub(super) type Dropped = Option<HashMap<IpAddr, Window>>;

impl Addresses {
    /// The window of an address.
    pub(super) fn window(
        &mut self,
        address: IpAddr,
        now: Age,
        length: Duration,
    ) -> (&mut Window, Dropped) {
        let address = network(address);
        let age = Duration::from_micros(now.saturating_sub(self.since));
        let mut dropped = None;
        // What was not asked for since a whole window is empty.
        if self.young.len() >= GENERATION || age > length {
            let old = std::mem::take(&mut self.young);
            dropped = Some(std::mem::replace(&mut self.old, old));
            self.since = now;
        }
        let older = self.old.remove(&address);
        let window = self.young.entry(address).or_insert_with(|| older.unwrap_or_default());
        (window, dropped)
    }
}

/// Counts one request in a window of this module's.
pub(super) fn add(window: &mut Window, now: Age, length: Duration) {
    window.add(now, length, 1, EXACT);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const SECOND: u64 = 1_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    fn asks(addresses: &mut Addresses, address: &str, now: Age) -> u64 {
        let (window, _) = addresses.window(address.parse().unwrap(), now, MINUTE);
        add(window, now, MINUTE);
        window.counted(now, MINUTE)
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let mut addresses = Addresses::default();
        assert_eq!(asks(&mut addresses, "2001:db8::1", 0), 1);
        assert_eq!(asks(&mut addresses, "2001:db8::ffff:1", 0), 2);
        assert_eq!(asks(&mut addresses, "2001:db8:0:1::1", 0), 1);
        assert_eq!(asks(&mut addresses, "1.2.3.4", 0), 1);
        assert_eq!(asks(&mut addresses, "::ffff:1.2.3.4", 0), 2);
    }

    #[test]
    fn an_address_is_remembered_for_a_window_whatever_the_generation() {
        let mut addresses = Addresses::default();
        for n in 0..10 {
            assert_eq!(asks(&mut addresses, "1.2.3.4", n * 5 * SECOND), n + 1);
        }
        // 70 s: a generation has passed; what came after 10 s counts.
        assert_eq!(asks(&mut addresses, "1.2.3.4", 70 * SECOND), 8);
        asks(&mut addresses, "9.9.9.9", 200 * SECOND);
        asks(&mut addresses, "9.9.9.9", 300 * SECOND);
        assert_eq!(addresses.young.len() + addresses.old.len(), 1, "the silent one is gone");
    }

    #[test]
    fn there_is_a_bound_and_who_keeps_asking_stays() {
        let mut addresses = Addresses::default();
        let mut counted = 0;
        for n in 0..200_000_u32 {
            let one = Ipv6Addr::from_bits(u128::from(n) << 64).to_string();
            asks(&mut addresses, &one, 0);
            if n % 1000 == 0 {
                counted += 1;
                assert_eq!(asks(&mut addresses, "1.2.3.4", 0), counted);
            }
            assert!(addresses.young.len() + addresses.old.len() <= 2 * GENERATION);
        }
    }
}
