//! Which URL may be meant.

use std::fmt;
use std::str::FromStr;

use ::url::{Host, Url};

/// No tunnel's URL is longer: a host name has up to 253 characters.
const LONGEST: usize = 300;
/// Labels that a pattern names after its `*`: `*.com` would be everybody's.
const LEAST_FIXED_LABELS: usize = 2;
/// A label in another script, written in ASCII; some look like others.
const PUNYCODE: &str = "xn--";

/// A host, or with `*.` before it all hosts that have one label more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// What follows `*.`, or all of it.
    fixed: String,
    is_wild: bool,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host: write for example *.trycloudflare.com, or films.example.org")]
pub struct PatternError(String);

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (fixed, is_wild) = match text.strip_prefix("*.") {
            Some(fixed) => (fixed, true),
            None => (text, false),
        };
        let is_name = Host::parse(fixed) == Ok(Host::Domain(fixed.to_owned()));
        let is_plain = is_name && fixed.split('.').all(is_label);
        let labels = fixed.split('.').count();
        if !is_plain || is_wild && labels < LEAST_FIXED_LABELS {
            return Err(PatternError(text.to_owned()));
        }
        Ok(Self { fixed: fixed.to_owned(), is_wild })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_wild { "*." } else { "" };
        write!(formatter, "{star}{}", self.fixed)
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        if !self.is_wild {
            return host == self.fixed;
        }
        let first = host.strip_suffix(&self.fixed).and_then(|rest| rest.strip_suffix('.'));
        first.is_some_and(is_label)
    }

    /// Whether the pattern itself has that label in ASCII, so that it was meant.
    fn names(&self, label: &str) -> bool {
        self.fixed.split('.').any(|one| one == label)
    }
}

fn is_label(text: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(is_inside)
}

/// A URL that may be meant: https, an allowed host, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelUrl {
    host: String,
    port: u16,
}

/// The port of https.
pub const HTTPS_PORT: u16 = 443;

impl TunnelUrl {
    /// Its host, a DNS name in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for TunnelUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "https://{}", self.host)?;
        if self.port == HTTPS_PORT { Ok(()) } else { write!(formatter, ":{}", self.port) }
    }
}

/// Why a URL cannot be meant. None of the texts repeats it: it goes to logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not one at all.
    #[error("this is no URL")]
    NotOne,
    /// Too long, or with characters that programs read in different ways.
    #[error("a URL has up to {LONGEST} plain ASCII characters, no spaces and no backslashes")]
    Characters,
    /// Anybody on the way could read and change what goes there.
    #[error("only https is taken")]
    Scheme,
    /// What precedes an @ looks like a host, and is none.
    #[error("a user name or password is not taken")]
    UserInfo,
    /// Addresses have no certificates that mean anything.
    #[error("an address instead of a name is not taken")]
    IpLiteral,
    /// Some other service of that host.
    #[error("only port {0} is taken")]
    Port(u16),
    /// Clients add their own paths.
    #[error("only https://HOST is taken: no path, query or fragment")]
    Path,
    /// It says in a roundabout way what it means.
    #[error("this is not the usual form: write https://HOST in lower case")]
    Unusual,
    /// Looks like another.
    #[error("a host in punycode is only taken where --allow-host names that label")]
    Punycode,
    /// Nobody has allowed that host.
    #[error("this host is not allowed (--allow-host): {0} are")]
    Foreign(String),
}

impl UrlError {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotOne => "not_a_url",
            Self::Characters => "characters",
            Self::Scheme => "scheme",
            Self::UserInfo => "user_info",
            Self::IpLiteral => "ip_literal",
            Self::Port(_) => "port",
            Self::Path => "path",
            Self::Unusual => "unusual_form",
            Self::Punycode => "punycode",
            Self::Foreign(_) => "foreign_host",
        }
    }
}

/// Whose URLs are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlRules {
    /// The hosts.
    pub hosts: Vec<HostPattern>,
    /// The one port.
    pub port: u16,
}

impl UrlRules {
    /// The URL, where it may be meant.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, text: &str) -> Result<TunnelUrl, UrlError> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        if text.len() > LONGEST || !text.bytes().all(is_plain) {
            return Err(UrlError::Characters);
        }
        let url = Url::parse(text).map_err(|_| UrlError::NotOne)?;
        if url.scheme() != "https" {
            return Err(UrlError::Scheme);
        }
        if text.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let host = match url.host().ok_or(UrlError::NotOne)? {
            Host::Domain(host) => host.to_owned(),
            Host::Ipv4(_) | Host::Ipv6(_) => return Err(UrlError::IpLiteral),
        };
        if url.port_or_known_default() != Some(self.port) {
            return Err(UrlError::Port(self.port));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(UrlError::Path);
        }
        let found = TunnelUrl { host, port: self.port };
        // Whoever reads the same text another way than this parser must find nothing else in it.
        if found.to_string() != text.strip_suffix('/').unwrap_or(text) {
            return Err(UrlError::Unusual);
        }
        self.check_host(found.host())?;
        Ok(found)
    }

    fn check_host(&self, host: &str) -> Result<(), UrlError> {
        let mut punycode = host.split('.').filter(|label| label.starts_with(PUNYCODE));
        let is_named = |label: &str| self.hosts.iter().any(|pattern| pattern.names(label));
        if !punycode.all(is_named) {
            return Err(UrlError::Punycode);
        }
        if self.hosts.iter().any(|pattern| pattern.matches(host)) {
            return Ok(());
        }
        let allowed: Vec<_> = self.hosts.iter().map(ToString::to_string).collect();
        Err(UrlError::Foreign(allowed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: &[&str]) -> UrlRules {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
        UrlRules { hosts, port: HTTPS_PORT }
    }

    fn refusal(text: &str) -> &'static str {
        rules(&["*.trycloudflare.com"]).admit(text).unwrap_err().reason()
    }

    #[test]
    fn a_tunnel_under_an_allowed_name_may_be_meant() {
        let rules = rules(&["*.trycloudflare.com", "films.example.org"]);
        for text in ["https://so-odd-4-words.trycloudflare.com", "https://films.example.org"] {
            assert_eq!(rules.admit(text).unwrap().to_string(), text);
            assert_eq!(rules.admit(&format!("{text}/")).unwrap().to_string(), text);
        }
    }

    #[test]
    fn another_host_is_refused_however_much_it_looks_like_an_allowed_one() {
        for host in [
            "example.org",
            "trycloudflare.com",
            "a.b.trycloudflare.com",
            "atrycloudflare.com",
            "a.trycloudflare.com.example.org",
            "a.trycloudflare.com.",
            "a.trycloudflare.co",
            "-a.trycloudflare.com",
            "a_b.trycloudflare.com",
            "comfyui",
        ] {
            assert_eq!(refusal(&format!("https://{host}")), "foreign_host", "{host}");
        }
    }

    #[test]
    fn only_https_and_its_port() {
        for text in
            ["http://a.trycloudflare.com", "ftp://a.trycloudflare.com", "file:///etc/passwd"]
        {
            assert_eq!(refusal(text), "scheme", "{text}");
        }
        for port in ["80", "8443", "8188"] {
            assert_eq!(refusal(&format!("https://a.trycloudflare.com:{port}")), "port");
        }
    }

    #[test]
    fn what_precedes_an_at_is_no_host() {
        for text in [
            "https://a.trycloudflare.com@example.org",
            "https://user:word@a.trycloudflare.com",
            "https://@a.trycloudflare.com",
            "https://a.trycloudflare.com/@example.org",
        ] {
            assert_eq!(refusal(text), "user_info", "{text}");
        }
    }

    #[test]
    fn an_address_is_no_name_in_whatever_form_it_comes() {
        for host in
            ["127.0.0.1", "169.254.169.254", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "127.1"]
        {
            assert_eq!(refusal(&format!("https://{host}")), "ip_literal", "{host}");
        }
    }

    #[test]
    fn scripts_that_look_alike_are_refused_unless_that_label_is_allowed() {
        assert_eq!(refusal("https://xn--4ca.trycloudflare.com"), "punycode");
        assert_eq!(refusal("https://a.xn--trycloudflre-69j.com"), "punycode");
        assert_eq!(refusal("https://a.trycloudflаre.com"), "characters");
        let meant = rules(&["xn--bcher-kva.example"]);
        assert!(meant.admit("https://xn--bcher-kva.example").is_ok());
        assert!(meant.admit("https://xn--bcher-kva.xn--bcher-kva.example").is_err());
    }

    #[test]
    fn what_two_programs_could_read_in_two_ways_is_refused() {
        for text in [
            "https://a.trycloudflare.com\\.example.org",
            "https://a.trycloudflare.com\n",
            " https://a.trycloudflare.com",
            "https://a.try\tcloudflare.com",
        ] {
            assert_eq!(refusal(text), "characters", "{text:?}");
        }
        for text in [
            "HTTPS://a.trycloudflare.com",
            "https://A.trycloudflare.com",
            "https:a.trycloudflare.com",
            "https:///a.trycloudflare.com",
            "https://a.trycloudflare.com:443",
            "https://%61.trycloudflare.com",
        ] {
            assert_eq!(refusal(text), "unusual_form", "{text:?}");
        }
        let long = format!("https://{}.trycloudflare.com", "a".repeat(LONGEST));
        assert_eq!(refusal(&long), "characters");
    }

    #[test]
    fn a_path_is_the_clients_own() {
        for end in ["/api", "/?a", "/#a", "?", "//"] {
            assert_eq!(refusal(&format!("https://a.trycloudflare.com{end}")), "path", "{end}");
        }
    }

    #[test]
    fn a_pattern_names_somebody() {
        for text in ["*", "*.", "*.com", "a.*.com", "*.*.com", "A.com", "10.0.0.1", "", "a b", "a/"]
        {
            assert!(text.parse::<HostPattern>().is_err(), "{text}");
        }
        assert_eq!("*.a.com".parse::<HostPattern>().unwrap().to_string(), "*.a.com");
    }
}
