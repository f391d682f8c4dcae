//! Mutual TLS: certificates that name services.

mod authority;
mod certificates;
mod identity;
mod issue;
mod material;
mod peers;

pub use authority::{Authority, Issued, Overview, RotateStep};
pub use certificates::{Certificates, CertificatesConfig, Reloaded};
pub use identity::Identity;
