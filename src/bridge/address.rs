//! Where a name may lead: to the internet, and to nothing that is this cluster's, its machines' or
//! its cloud's own.
//!
//! The networks are those that IANA's registries of special-purpose addresses list as not globally
//! reachable, those that carry another address within them, and where clouds tell machines secrets.

use std::net::IpAddr;

use ipnet::IpNet;

/// Why an address may not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address {address} is {what}")]
pub struct AddressError {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub what: &'static str,
}

/// Where machines of a cloud are told who they are, and with which credentials.
const METADATA: [&str; 5] = [
    "169.254.169.254/32",
    "fd00:ec2::254/128",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "168.63.129.16/32",
];

/// All that is not somebody's on the internet. IPv6 outside 2000::/3 is none of it, besides.
const SPECIAL: [(&str, &str); 27] = [
    ("0.0.0.0/8", "this host"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "a carrier's own (CGNAT)"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.88.99.0/24", "a 6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "this host"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "an IPv4 address in disguise"),
    ("64:ff9b::/96", "an IPv4 address in disguise (NAT64)"),
    ("64:ff9b:1::/48", "an IPv4 address in disguise (NAT64)"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
    ("2001::/23", "for protocols (Teredo among them)"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "an IPv4 address in disguise (6to4)"),
    ("3fff::/20", "for documentation"),
];

/// What of IPv6 is given to anybody.
const GLOBAL_UNICAST: &str = "2000::/3";

/// Which addresses may be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// Networks of one's own in which ComfyUIs are, though they are no internet.
    pub allowed: Vec<IpNet>,
}

impl AddressRules {
    /// Whether that address may be asked.
    ///
    /// # Errors
    /// What it is instead.
    pub fn check(&self, address: IpAddr) -> Result<(), AddressError> {
        let refused = |what| Err(AddressError { address, what });
        // No network of one's own makes these anybody's business.
        if METADATA.iter().any(|network| is_in(address, network)) {
            return refused("where a cloud tells machines their credentials");
        }
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        let special = SPECIAL.iter().find(|(network, _)| is_in(address, network));
        match special {
            Some((_, what)) => refused(what),
            None if address.is_ipv6() && !is_in(address, GLOBAL_UNICAST) => refused("reserved"),
            None => Ok(()),
        }
    }
}

fn is_in(address: IpAddr, network: &str) -> bool {
    network.parse::<IpNet>().is_ok_and(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &AddressRules, text: &str) -> Result<(), &'static str> {
        rules.check(text.parse().unwrap()).map_err(|error| error.what)
    }

    #[test]
    fn every_network_in_the_tables_is_one() {
        let networks = METADATA.into_iter().chain(SPECIAL.map(|(network, _)| network));
        for network in networks.chain([GLOBAL_UNICAST]) {
            let parsed: IpNet = network.parse().unwrap();
            assert_eq!(parsed, parsed.trunc(), "{network}");
        }
    }

    #[test]
    fn the_internet_may_be_asked() {
        for address in ["104.16.230.132", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1"] {
            assert_eq!(check(&AddressRules::default(), address), Ok(()), "{address}");
        }
    }

    #[test]
    fn what_is_ones_own_may_not() {
        for address in [
            "0.0.0.0",
            "10.96.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "5f00::1",
        ] {
            assert!(check(&AddressRules::default(), address).is_err(), "{address}");
        }
    }

    #[test]
    fn an_address_within_an_address_may_not() {
        for address in [
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "2002:a00:1::",
            "2001:0:a00:1::",
        ] {
            assert!(check(&AddressRules::default(), address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_clouds_metadata_may_not_even_where_its_network_is_allowed() {
        let all =
            AddressRules { allowed: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()] };
        assert_eq!(check(&all, "10.0.0.1"), Ok(()));
        assert_eq!(check(&all, "fd00::1"), Ok(()));
        for address in ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"] {
            assert!(check(&all, address).is_err(), "{address}");
        }
    }
}
