//! Whose request it is, by address, and whether it came encrypted, where proxies stand before this one.
//!
//! Every proxy on the way appends the address that it was reached from to `X-Forwarded-For`; what stands left of what
//! trusted proxies wrote is the client's own word. So the list is read from its right end, past as many proxies as are
//! trusted, and no further. The proxy before this one took the left-most entry, which any client can forge; where there is
//! one entry, both are the same (`proxy.md` cases 51 and 52).
//!
//! Must not know what an address is used for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use service::env::{Class, Reader, Var};

const TRUST: &str = "TRUST_PROXY";
const HOPS: &str = "PROXY_TRUSTED_HOPS";

/// Whether there are trusted proxies.
pub(crate) const TRUST_VAR: Var = Var {
    name: TRUST,
    class: Class::Measured,
    default: Some("false"),
    help: "Whether clients come by a proxy that is trusted to say who they are (X-Forwarded-For) and whether they came \
           encrypted (X-Forwarded-Proto). Without it both are ignored.",
};

/// Which ones.
pub(crate) const HOPS_VAR: Var = Var {
    name: HOPS,
    class: Class::Measured,
    default: Some("1"),
    help: "With TRUST_PROXY: how many proxies are trusted, counted from this one, or the networks of all that are, such \
           as 10.0.0.0/8,fd00::/8. The client is the right-most address of X-Forwarded-For that none of them has.",
};

/// What counts as one client: of IPv6 a whole /64, which its holder has to take addresses from (RFC 6177).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let host = (1_u128 << 64) - 1;
            Ipv6Addr::from_bits(v6.to_bits() & !host).into()
        }
    }
}

/// The most proxies in a row.
const MOST_HOPS: usize = 32;

/// The most networks.
const MOST_NETWORKS: usize = 64;

/// Who is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trusted {
    /// Nobody: a client's address is that of its connection.
    Nobody,
    /// So many proxies, whatever their addresses.
    Hops(usize),
    /// Proxies of these networks.
    Networks(Vec<Network>),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u32,
}

/// Not a count, and no list of networks.
#[derive(Debug, thiserror::Error)]
#[error(
    "must be a count of proxies from 1 to {MOST_HOPS}, or at most {MOST_NETWORKS} networks such as 10.0.0.0/8,fd00::/8"
)]
pub(crate) struct NotTrusted;

impl FromStr for Trusted {
    type Err = NotTrusted;

    fn from_str(text: &str) -> Result<Self, NotTrusted> {
        if let Ok(hops) = text.trim().parse::<usize>() {
            let within = (1..=MOST_HOPS).contains(&hops);
            return within.then_some(Self::Hops(hops)).ok_or(NotTrusted);
        }
        let networks: Result<Vec<_>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        let networks = networks?;
        if networks.len() <= MOST_NETWORKS { Ok(Self::Networks(networks)) } else { Err(NotTrusted) }
    }
}

impl FromStr for Network {
    type Err = NotTrusted;

    fn from_str(text: &str) -> Result<Self, NotTrusted> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotTrusted)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| NotTrusted)?;
        if prefix <= longest { Ok(Self { address, prefix }) } else { Err(NotTrusted) }
    }
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let differing: u128 = ours ^ theirs;
        // A shift by the whole width is none (a /0 holds all of its family).
        differing.checked_shr(width - self.prefix).unwrap_or_default() == 0
    }
}

impl Trusted {
    /// Reads its variables.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let trust = env.flag(TRUST);
        let trusted = env.parse(HOPS);
        if trust? { trusted } else { trusted.map(|_: Self| Self::Nobody) }
    }

    /// Whether the other end of a connection is a proxy that is believed.
    fn believes(&self, peer: IpAddr) -> bool {
        match self {
            Self::Nobody => false,
            Self::Hops(_) => true,
            Self::Networks(networks) => networks.iter().any(|network| network.holds(peer)),
        }
    }

    /// The client's address.
    ///
    /// What is no address is nobody's: then it is the address of the proxy that passed it on, and its clients are counted
    /// together.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.believes(client) {
            return client;
        }
        for (hop, entry) in forwarded_for(headers).take(MOST_HOPS).enumerate() {
            let is_behind = match self {
                Self::Nobody => false,
                Self::Hops(hops) => hop < *hops,
                Self::Networks(_) => self.believes(client),
            };
            match entry.filter(|_| is_behind) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }

    /// Whether a trusted proxy says that it was reached by HTTPS.
    pub(crate) fn came_encrypted(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let said = headers.get_all("x-forwarded-proto").iter().next_back();
        let said = said.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        self.believes(peer.to_canonical())
            && said.is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"))
    }
}

/// The entries of all lines, from the right. `None` for what is no address.
fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    lines.flat_map(|line| {
        let text = line.to_str().unwrap_or("?");
        text.rsplit(',').map(|entry| address(entry.trim()))
    })
}

/// An entry: an address, with a port if need be (RFC 7239, 6, has both forms).
fn address(entry: &str) -> Option<IpAddr> {
    let bare = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let address = entry.parse().ok().or_else(bare).or_else(with_port);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PEER: &str = "10.0.0.9";

    fn client(trusted: &Trusted, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append("x-forwarded-for", value);
        }
        trusted.client(PEER.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn case_49_50_nobody_is_believed_who_was_not_named() {
        assert_eq!(client(&Trusted::Nobody, &[]), PEER);
        assert_eq!(client(&Trusted::Nobody, &["1.2.3.4"]), PEER);
        let elsewhere: Trusted = "192.168.0.0/16".parse().unwrap();
        assert_eq!(client(&elsewhere, &["1.2.3.4"]), PEER);
    }

    #[test]
    fn case_51_52_the_right_most_that_no_trusted_proxy_has() {
        let one: Trusted = "1".parse().unwrap();
        let two: Trusted = "2".parse().unwrap();
        let networks: Trusted = "10.0.0.0/8, 5.6.7.8".parse().unwrap();
        for (lines, by_one, by_two, by_networks) in [
            (&[][..], PEER, PEER, PEER),
            (&["1.2.3.4"], "1.2.3.4", "1.2.3.4", "1.2.3.4"),
            (&["  1.2.3.4 , 5.6.7.8 "], "5.6.7.8", "1.2.3.4", "1.2.3.4"),
            (&["6.6.6.6, 1.2.3.4, 5.6.7.8"], "5.6.7.8", "1.2.3.4", "1.2.3.4"),
            (&["6.6.6.6, 1.2.3.4", "10.1.1.1"], "10.1.1.1", "1.2.3.4", "1.2.3.4"),
            (&["1.2.3.4", "6.6.6.6, 7.7.7.7"], "7.7.7.7", "6.6.6.6", "7.7.7.7"),
            (&["1.2.3.4, garbage"], PEER, PEER, PEER),
            (&["garbage, 10.1.1.1"], "10.1.1.1", "10.1.1.1", "10.1.1.1"),
            (&[""], PEER, PEER, PEER),
            (&["1.2.3.4,"], PEER, PEER, PEER),
            (&["unknown"], PEER, PEER, PEER),
            (&["\u{e4}"], PEER, PEER, PEER),
            (&["10.3.3.3"], "10.3.3.3", "10.3.3.3", "10.3.3.3"),
        ] {
            assert_eq!(client(&one, lines), by_one, "{lines:?}");
            assert_eq!(client(&two, lines), by_two, "{lines:?}");
            assert_eq!(client(&networks, lines), by_networks, "{lines:?}");
        }
    }

    #[test]
    fn every_form_of_an_address() {
        for (entry, expected) in [
            ("1.2.3.4:5", "1.2.3.4"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:1", "1.2.3.4"),
            ("1.2.3", PEER),
            ("1.2.3.4:99999", PEER),
            ("fe80::1%eth0", PEER),
            ("[1.2.3.4", PEER),
            ("\"1.2.3.4\"", PEER),
        ] {
            assert_eq!(client(&Trusted::Hops(1), &[entry]), expected, "{entry}");
        }
    }

    #[test]
    fn a_long_list_is_read_to_its_bound() {
        let all = vec!["10.0.0.1"; 10_000].join(",");
        let networks: Trusted = "10.0.0.0/8".parse().unwrap();
        assert_eq!(client(&networks, &[&format!("1.2.3.4,{all}")]), "10.0.0.1");
    }

    #[test]
    fn networks_hold_what_they_should() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe00::1", false),
            ("1.2.3.4", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.holds(address.parse().unwrap()), holds, "{network:?} {address}");
        }
        for wrong in
            ["", "0", "33", "-1", "10.0.0.0/33", "10.0.0.0/", "fd00::/129", "a", "1.2.3.4,"]
        {
            assert!(wrong.parse::<Trusted>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn case_90_only_a_trusted_proxy_can_say_https() {
        let says = |values: &[&'static str], trusted: &Trusted| {
            let name = http::header::HeaderName::from_static("x-forwarded-proto");
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_static(value));
            }
            trusted.came_encrypted(PEER.parse().unwrap(), &headers)
        };
        let one = Trusted::Hops(1);
        assert!(says(&["https"], &one) && says(&["HTTPS"], &one));
        assert!(says(&["http", "https"], &one) && says(&["http, https"], &one));
        assert!(!says(&["https, http"], &one) && !says(&["https", "http"], &one));
        assert!(!says(&[], &one) && !says(&["wss"], &one));
        assert!(!says(&["https"], &Trusted::Nobody));
        assert!(!says(&["https"], &"192.168.0.0/16".parse().unwrap()));
    }
}
