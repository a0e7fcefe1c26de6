//! How an address and a file mode are written in settings.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where to listen: `127.0.0.1:9191`, `[::1]:9191`, `localhost:9191`, or `unix:/run/cardea/cardea.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

/// The text is no address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an address to listen on: write it like `127.0.0.1:9191` or `unix:/run/cardea/cardea.sock`"
)]
pub struct AddressError;

impl FromStr for ListenAddress {
    type Err = AddressError;

    /// No name but `localhost` is looked up: an address to listen on must not depend on who answers for a name.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(AddressError)
            };
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            let port: u16 = port.parse().map_err(|_| AddressError)?;
            return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| AddressError)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(reader)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// As it is written, so that the settings' schema can show the default.
impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_str(self)
    }
}

impl JsonSchema for ListenAddress {
    fn schema_name() -> Cow<'static, str> {
        "ListenAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "An IP address and a port, or `unix:` and the absolute path of a Unix socket.",
            "examples": ["127.0.0.1:9191", "unix:/run/cardea/cardea.sock"],
        })
    }
}

/// Permissions of a Unix socket, written as text in octal: `"600"`, `"660"`. Never open to all (`other` has none).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(u32);

impl SocketMode {
    /// Only the own user.
    pub const OWN_USER: Self = Self(0o600);

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// The text is no mode for a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a socket mode: write it in octal like \"600\" or \"660\"; others than user and group get no access"
)]
pub struct ModeError;

impl FromStr for SocketMode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let bits = u32::from_str_radix(text, 8)
            .ok()
            .filter(|_| digits)
            .ok_or(ModeError)?;
        if bits & !0o770 == 0 && bits & 0o600 == 0o600 {
            Ok(Self(bits))
        } else {
            Err(ModeError)
        }
    }
}

impl fmt::Debug for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:o}", self.0)
    }
}

impl<'de> Deserialize<'de> for SocketMode {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(reader)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// As it is written, so that the settings' schema can show the default.
impl Serialize for SocketMode {
    fn serialize<S: Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
        writer.collect_str(&format_args!("{:o}", self.0))
    }
}

impl JsonSchema for SocketMode {
    fn schema_name() -> Cow<'static, str> {
        "SocketMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Permissions of a Unix socket in octal; none for others than user and group.",
            "examples": ["600", "660"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("127.0.0.1:9191", "127.0.0.1:9191"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::1]:9191", "[::1]:9191"),
            ("unix:/run/cardea.sock", "unix:/run/cardea.sock"),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "9191",
            "example.com:9191",
            "unix:cardea.sock",
            "unix:",
            "127.0.0.1",
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn g1_a_socket_that_everybody_may_open_is_refused() {
        assert_eq!("660".parse::<SocketMode>().unwrap().bits(), 0o660);
        assert_eq!("0600".parse(), Ok(SocketMode::OWN_USER));
        for text in ["666", "777", "+600", "1600", "", "rw", "060", "688"] {
            assert_eq!(text.parse::<SocketMode>(), Err(ModeError), "{text}");
        }
    }
}
