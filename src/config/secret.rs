//! Values that may be used but not shown.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::fault::Cause;

/// What stands for a secret wherever it would be shown.
pub const MASK: &str = "***";

/// A text that `Debug` and `Display` mask.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text into custody.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one who must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of this process alone.
    Sqlite {
        /// The file; made if it is not there.
        path: PathBuf,
    },
    /// A server for many processes.
    Postgres {
        /// The URL with its password.
        url: Secret,
    },
}

impl Database {
    /// Reads `sqlite:PATH`, `postgres://…` or `postgresql://…`. No error repeats the text.
    pub(super) fn parse(text: &str) -> Result<Database, Cause> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return parse_sqlite(path);
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        check_postgres(rest.ok_or("the scheme is none of these")?)?;
        Ok(Database::Postgres { url: Secret::new(text) })
    }
}

impl fmt::Display for Database {
    /// The URL with its passwords masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
            Database::Postgres { url } => f.write_str(&mask_url(url.expose())),
        }
    }
}

fn parse_sqlite(path: &str) -> Result<Database, Cause> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.ends_with('/') {
        return Err("the path of a file is missing".into());
    }
    if path.contains(":memory:") {
        return Err("a store in memory forgets everything at a restart: name a file".into());
    }
    if path.contains('?') {
        return Err("SQLite takes no parameters: give the path alone".into());
    }
    Ok(Database::Sqlite { path: PathBuf::from(path) })
}

/// Strict about where a password may hide, so that masking it is sure to work.
fn check_postgres(rest: &str) -> Result<(), Cause> {
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if tail.contains('@') || authority.matches('@').count() > 1 {
        return Err("write @ as %40, / as %2F, ? as %3F and # as %23 inside user and password".into());
    }
    let hosts = authority.split_once('@').map_or(authority, |(_, hosts)| hosts);
    let named_in_query = tail.contains("?host=") || tail.contains("&host=");
    if hosts.is_empty() && !named_in_query {
        return Err("the host is missing".into());
    }
    if !hosts.is_empty() && !hosts.split(',').all(|host| is_host_port(host, false)) {
        return Err("a host or port is not valid".into());
    }
    Ok(())
}

/// Masks the password before `@`, and every parameter whose name says password.
fn mask_url(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let mut masked = match (base.split_once("://"), base.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, hosts))) => {
            let user = rest.split([':', '@']).next().unwrap_or_default();
            let password =
                if rest.split('@').next().is_some_and(|info| info.contains(':')) { ":***" } else { "" };
            format!("{scheme}://{user}{password}@{hosts}")
        }
        _ => base.to_owned(),
    };
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        masked.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((key, _)) if key.to_lowercase().contains("pass") => {
                masked.push_str(&format!("{key}={MASK}"))
            }
            _ => masked.push_str(pair),
        }
    }
    masked
}

/// Whether `text` is a host name, an IPv4 address or a bracketed IPv6 address.
pub(super) fn is_host(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => (1..=253).contains(&text.len()) && text.bytes().all(legal),
    }
}

/// Whether `text` is a host with a port, which may be left out unless `port_needed`.
pub(super) fn is_host_port(text: &str, port_needed: bool) -> bool {
    // A colon inside the brackets of an IPv6 address does not begin a port.
    match text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0),
        None => !port_needed && is_host(text),
    }
}

/// Properties handed to the Kafka client as they are. Secret ones are masked by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaProperties(pub(super) BTreeMap<String, String>);

impl KafkaProperties {
    /// The value of one property.
    pub fn get(&self, property: &str) -> Option<&str> {
        self.0.get(property).map(String::as_str)
    }

    /// All pairs of property and value, by property.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(property, value)| (property.as_str(), value.as_str()))
    }
}

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            self.iter().map(|(name, value)| (name, if is_secret_property(name) { MASK } else { value }));
        f.debug_map().entries(shown).finish()
    }
}

/// Whether the value of a Kafka property must not be shown.
pub(super) fn is_secret_property(property: &str) -> bool {
    ["password", "secret", "passphrase"].iter().any(|word| property.contains(word))
        // A private key in place, and free text that may carry a token.
        || property.ends_with("key.pem")
        || property == "sasl.oauthbearer.config"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_in_every_form() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
        let properties =
            [("sasl.password", "hunter2"), ("sasl.mechanism", "PLAIN"), ("ssl.key.pem", "hunter2")];
        let properties =
            KafkaProperties(properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let shown = format!("{properties:?}");
        assert!(shown.contains("PLAIN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_password_of_a_url_is_masked() {
        for (url, shown) in [
            ("postgres://u:hunter2@h:5432/db", "postgres://u:***@h:5432/db"),
            ("postgresql://u:hunter2@h1:1,h2:2/db", "postgresql://u:***@h1:1,h2:2/db"),
            (
                "postgres://u@h/db?password=hunter2&sslmode=require",
                "postgres://u@h/db?password=***&sslmode=require",
            ),
            ("postgres://:hunter2@h/db", "postgres://:***@h/db"),
            ("postgres://h/db", "postgres://h/db"),
            ("postgres:///db?host=/run/postgresql", "postgres:///db?host=/run/postgresql"),
            ("postgres://u:hunter2@[::1]:5432/db", "postgres://u:***@[::1]:5432/db"),
        ] {
            let database = Database::parse(url).expect(url);
            assert_eq!(database.to_string(), shown);
            assert!(!format!("{database:?}").contains("hunter2"));
        }
    }

    #[test]
    fn urls_that_would_hide_a_password_elsewhere_are_refused() {
        for url in [
            "postgres://u:a/hunter2@h/db",
            "postgres://u:a?hunter2@h/db",
            "postgres://u:a@hunter2@h/db",
            "postgres://u:p@/db",
            "postgres://u:p@h:port/db",
            "postgres://u:p@h:0/db",
            "mysql://u:hunter2@h/db",
            "hunter2",
            "sqlite:",
            "sqlite:data/",
            "sqlite::memory:",
            "sqlite:a.db?mode=rwc",
        ] {
            let cause = Database::parse(url).expect_err(url).to_string();
            assert!(!cause.contains("hunter2"), "{cause}");
        }
    }

    #[test]
    fn sqlite_paths_may_be_relative_or_absolute() {
        for (url, path) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///var/a.db", "/var/a.db"),
        ] {
            assert_eq!(Database::parse(url).expect(url), Database::Sqlite { path: path.into() });
        }
    }

    #[test]
    fn hosts_and_ports() {
        for text in ["localhost:9092", "kafka-1.example:1", "10.0.0.1:65535", "[::1]:9092"] {
            assert!(is_host_port(text, true), "{text}");
        }
        for text in
            ["localhost", "localhost:", ":9092", "a b:1", "h:0", "h:65536", "::1:9092", "http://h:1", ""]
        {
            assert!(!is_host_port(text, true), "{text}");
        }
        assert!(is_host_port("[::1]", false) && !is_host_port("[::x]", false));
    }
}
