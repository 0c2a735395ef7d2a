//! Where this role answers: by gRPC, by HTTP, or by both; never by neither.

use std::str::FromStr;

use service::health::Probe;
use service::listen::{Local, NotLocal};

/// What a variable says about one protocol.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    /// `off`: it is not answered.
    Off,
    /// It is answered here.
    At(Local),
}

/// Why a text says nothing about a protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotADoor {
    /// It is no address that nobody outside can reach.
    #[error("{0}; or off")]
    Address(#[from] NotLocal),
}

impl FromStr for Door {
    type Err = NotADoor;

    fn from_str(text: &str) -> Result<Self, NotADoor> {
        if text == "off" { Ok(Self::Off) } else { Ok(Self::At(text.parse()?)) }
    }
}

/// The protocols that are answered, one at least.
#[derive(Clone, Debug)]
pub(crate) enum Doors {
    /// Only gRPC.
    Grpc(Local),
    /// Only HTTP.
    Http(Local),
    /// Both.
    Both {
        /// Where gRPC.
        grpc: Local,
        /// Where HTTP.
        http: Local,
    },
}

impl Doors {
    /// What is left of the two. `None`: nothing.
    pub(crate) fn new(grpc: Door, http: Door) -> Option<Self> {
        match (grpc, http) {
            (Door::At(grpc), Door::At(http)) => Some(Self::Both { grpc, http }),
            (Door::At(grpc), Door::Off) => Some(Self::Grpc(grpc)),
            (Door::Off, Door::At(http)) => Some(Self::Http(http)),
            (Door::Off, Door::Off) => None,
        }
    }

    /// Where gRPC is answered.
    pub(crate) fn grpc(&self) -> Option<&Local> {
        match self {
            Self::Grpc(grpc) | Self::Both { grpc, .. } => Some(grpc),
            Self::Http(_) => None,
        }
    }

    /// Where HTTP is answered.
    pub(crate) fn http(&self) -> Option<&Local> {
        match self {
            Self::Http(http) | Self::Both { http, .. } => Some(http),
            Self::Grpc(_) => None,
        }
    }

    /// Where the role says whether it is ready.
    pub(crate) fn probe(&self) -> Probe<'_> {
        match self {
            Self::Grpc(grpc) | Self::Both { grpc, .. } => Probe::Grpc(grpc),
            Self::Http(http) => Probe::Status(http),
        }
    }
}
