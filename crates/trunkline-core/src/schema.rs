//! JSON Schemas of event types: made from the types, kept as files, compared, and checked against.
//!
//! ```
//! use serde_json::json;
//! use trunkline_core::schema::{Mode, compatible};
//!
//! let old = json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]});
//! let new = json!({"type": "object",
//!     "properties": {"id": {"type": "string"}, "currency": {"type": "string"}},
//!     "required": ["id", "currency"]});
//!
//! let breaks = compatible(&old, &new, Mode::Backward);
//! assert_eq!(breaks[0].path, "currency");
//! assert!(compatible(&old, &new, Mode::Forward).is_empty());
//! ```

mod change;
mod compat;
mod describe;
mod files;
mod normal;
mod registry;

pub use change::{Change, changes};
pub use compat::{Difference, Mode, compatible};
pub use files::{Problem, check_dir, problems_in, write_dir};
pub use registry::Registry;
