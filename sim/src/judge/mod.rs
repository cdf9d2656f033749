//! Whether the promises are kept, and how well.

mod audit;
mod custody;
mod figures;
mod story;
mod watch;

pub(crate) use audit::{Audit, audit, compare, has, is_held};
pub use figures::Percentiles;
pub(crate) use figures::Samples;
pub use story::{Note, Step, Story};
pub use watch::Broken;
pub(crate) use watch::{News, Watch};
