//! A peer that keeps no rule. To come.
