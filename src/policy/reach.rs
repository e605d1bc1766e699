//! Which addresses a provider's endpoint may have. A namespace's user names endpoints, so the pod must not become their way to the
//! node's own services and to the cloud's metadata: these addresses are refused unless the operator's own configuration allows them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;

/// What makes an address one that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// This machine.
    Loopback,
    /// This machine's own link.
    LinkLocal,
    /// No address; Linux takes it for loopback.
    Unspecified,
    /// A group of machines, or broadcast.
    Multicast,
    /// A cloud's metadata: credentials of the node.
    Metadata,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "the unspecified address",
            Self::Multicast => "a multicast or broadcast address",
            Self::Metadata => "an address of a cloud's metadata",
        })
    }
}

/// Addresses that the operator allows although they are refused otherwise: CIDR blocks, in one order whatever order they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedAddresses(Arc<[IpNet]>);

/// An entry that is neither a CIDR block nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{entry}` is neither a CIDR block such as 127.0.0.0/8 or fd00::/8 nor an address; separate several with commas"
)]
pub struct NoAddresses {
    entry: String,
}

impl FromStr for AllowedAddresses {
    type Err = NoAddresses;

    fn from_str(text: &str) -> Result<Self, NoAddresses> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let mut blocks: Vec<IpNet> = entries.map(block).collect::<Result<_, _>>()?;
        blocks.sort();
        blocks.dedup();
        Ok(Self(blocks.into()))
    }
}

fn block(entry: &str) -> Result<IpNet, NoAddresses> {
    let network = entry.parse::<IpNet>().map(|block| block.trunc());
    network
        .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| NoAddresses {
            entry: entry.to_owned(),
        })
}

impl fmt::Display for AllowedAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, block) in self.0.iter().enumerate() {
            write!(f, "{}{block}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl AllowedAddresses {
    /// Loopback: what a process on a laptop may reach, where whoever starts it is the operator.
    #[must_use]
    pub fn loopback() -> Self {
        let blocks = [
            IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
            IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
        ];
        Self(blocks.into())
    }

    /// True when nothing is allowed beyond ordinary addresses.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why nothing may be sent to an address; `None` when it may. An IPv6 address that stands for an IPv4 address is held against both.
    #[must_use]
    pub fn refuses(&self, address: IpAddr) -> Option<Special> {
        let refused = |form: IpAddr| special(form).filter(|_| !self.contains(form) && !self.contains(address));
        let embedded = match address {
            IpAddr::V4(_) => [None; 2],
            IpAddr::V6(v6) => embedded(v6),
        };
        refused(address).or_else(|| embedded.into_iter().flatten().find_map(|v4| refused(v4.into())))
    }

    /// Why nothing may be sent to a host of this name, whatever it resolves to.
    #[must_use]
    pub fn refuses_name(&self, name: &str) -> Option<Special> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let known = METADATA_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
        known.then(|| self.refuses(METADATA.into())).flatten()
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(&address))
    }
}

/// The address that most clouds answer on.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Names that clouds give it. They resolve to [`METADATA`] where they mean anything.
const METADATA_NAMES: [&str; 4] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data.ec2.internal",
];

/// AWS instances, tasks and pods, Alibaba, Oracle, Azure's host.
const METADATA_V4: [Ipv4Addr; 6] = [
    METADATA,
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
];

/// Google, Oracle, Scaleway; AWS has the whole of fd00:ec2::/32.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

/// RFC 6890's blocks that no provider can be in.
fn special_v4(v4: Ipv4Addr) -> Option<Special> {
    let [first, ..] = v4.octets();
    Some(match first {
        _ if METADATA_V4.contains(&v4) => Special::Metadata,
        0 => Special::Unspecified,
        127 => Special::Loopback,
        _ if v4.is_link_local() => Special::LinkLocal,
        224..=255 => Special::Multicast,
        _ => return None,
    })
}

fn special_v6(v6: Ipv6Addr) -> Option<Special> {
    let [first, second, ..] = v6.segments();
    Some(match (first, second) {
        _ if METADATA_V6.contains(&v6) => Special::Metadata,
        (0xfd00, 0xec2) => Special::Metadata,
        _ if v6.is_unspecified() => Special::Unspecified,
        _ if v6.is_loopback() => Special::Loopback,
        _ if v6.is_unicast_link_local() => Special::LinkLocal,
        _ if v6.is_multicast() => Special::Multicast,
        _ => return None,
    })
}

/// IPv4 addresses that an IPv6 address stands for: mapped, compatible and translated (RFC 4291, 7915), NAT64 (RFC 6052, 8215), 6to4
/// (RFC 3056), Teredo (RFC 4380).
fn embedded(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let [_, _, o2, o3, o4, o5, o6, o7, _, o9, o10, _, a, b, c, d] = v6.octets();
    let last = Some(Ipv4Addr::new(a, b, c, d));
    match v6.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None; 2],
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [last, None],
        // A network's own prefix: the address is behind its 48 bits, or at the end of a longer one; the other place is then zero.
        [0x64, 0xff9b, 1, ..] => {
            [last, Some(Ipv4Addr::new(o6, o7, o9, o10))].map(|v4| v4.filter(|v4| v4.octets()[0] != 0))
        }
        [0x2002, ..] => [Some(Ipv4Addr::new(o2, o3, o4, o5)), None],
        [0x2001, 0, ..] => [Some(Ipv4Addr::new(!a, !b, !c, !d)), Some(Ipv4Addr::new(o4, o5, o6, o7))],
        _ => [None; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(allowed: &str, address: &str) -> Option<Special> {
        let allowed: AllowedAddresses = allowed.parse().unwrap();
        allowed.refuses(address.parse().unwrap())
    }

    #[test]
    fn special_addresses_are_refused_in_every_spelling() {
        for (address, special) in [
            ("127.0.0.1", Special::Loopback),
            ("127.255.255.254", Special::Loopback),
            ("::1", Special::Loopback),
            ("::ffff:127.0.0.1", Special::Loopback),
            ("::127.0.0.1", Special::Loopback),
            ("::ffff:0:127.0.0.1", Special::Loopback),
            ("0.0.0.0", Special::Unspecified),
            ("0.1.2.3", Special::Unspecified),
            ("::", Special::Unspecified),
            ("::ffff:0.0.0.0", Special::Unspecified),
            ("169.254.0.1", Special::LinkLocal),
            ("fe80::1", Special::LinkLocal),
            ("febf::1", Special::LinkLocal),
            ("224.0.0.1", Special::Multicast),
            ("255.255.255.255", Special::Multicast),
            ("ff02::1", Special::Multicast),
            ("169.254.169.254", Special::Metadata),
            ("169.254.170.2", Special::Metadata),
            ("100.100.100.200", Special::Metadata),
            ("168.63.129.16", Special::Metadata),
            ("fd00:ec2::254", Special::Metadata),
            ("fd00:ec2::23", Special::Metadata),
            ("fd20:ce::254", Special::Metadata),
            ("fd00:c1::a9fe:a9fe", Special::Metadata),
            ("::ffff:169.254.169.254", Special::Metadata),
            ("64:ff9b::169.254.169.254", Special::Metadata),
            ("64:ff9b:1::a9fe:a9fe", Special::Metadata),
            ("64:ff9b:1:a9fe:a9:fe00::", Special::Metadata),
            ("2002:a9fe:a9fe::1", Special::Metadata),
            ("2001:0:7f00:1::f7f7:f7f7", Special::Loopback),
            ("2001:0:808:808:0:0:5601:5601", Special::Metadata),
        ] {
            assert_eq!(refused("", address), Some(special), "{address}");
        }
    }

    #[test]
    fn ordinary_and_private_addresses_are_not() {
        for address in [
            "8.8.8.8",
            "10.96.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "2606:4700::1",
            "fd12::1",
            "::ffff:10.0.0.1",
            "64:ff9b::808:808",
            "64:ff9b:1::808:808",
            "64:ff9b:1:808:8:800::",
            "2002:808:808::1",
            "2001:db8::1",
        ] {
            assert_eq!(refused("", address), None, "{address}");
        }
    }

    #[test]
    fn the_operator_allows_blocks_and_addresses() {
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "fe80::7"] {
            assert_eq!(refused("127.0.0.0/8, fe80::7", address), None, "{address}");
        }
        assert_eq!(refused("127.0.0.0/8", "::1"), Some(Special::Loopback));
        assert_eq!(refused("127.0.0.0/8", "169.254.169.254"), Some(Special::Metadata));
        assert_eq!(refused("169.254.0.0/16", "169.254.169.254"), None);
        let loopback = AllowedAddresses::loopback();
        assert_eq!(loopback.to_string().parse(), Ok(loopback.clone()));
        assert_eq!(loopback.refuses("127.1.2.3".parse().unwrap()), None);
        assert_eq!(loopback.refuses("::1".parse().unwrap()), None);
        assert_eq!(loopback.refuses("0.0.0.0".parse().unwrap()), Some(Special::Unspecified));
    }

    #[test]
    fn names_of_metadata_are_refused_unless_its_address_is_allowed() {
        let none = AllowedAddresses::default();
        for name in ["metadata.google.internal", "Metadata.Google.Internal.", "metadata"] {
            assert_eq!(none.refuses_name(name), Some(Special::Metadata), "{name}");
        }
        assert_eq!(none.refuses_name("api.openai.com"), None);
        let allowed: AllowedAddresses = "169.254.169.254".parse().unwrap();
        assert_eq!(allowed.refuses_name("metadata.google.internal"), None);
    }

    #[test]
    fn a_list_is_written_in_one_way() {
        let list: AllowedAddresses = "127.0.0.1/8,10.0.0.1, ,127.0.0.0/8".parse().unwrap();
        assert_eq!(list.to_string(), "10.0.0.1/32,127.0.0.0/8");
        assert!("".parse::<AllowedAddresses>().unwrap().is_empty());
        let error = "127.0.0.0/8,local".parse::<AllowedAddresses>().unwrap_err();
        assert!(error.to_string().contains("`local`"), "{error}");
        assert!("127.0.0.0/33".parse::<AllowedAddresses>().is_err());
    }
}
