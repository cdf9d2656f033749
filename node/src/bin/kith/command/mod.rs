//! One file for each family of commands.

pub(crate) mod accept;
pub(crate) mod account;
pub(crate) mod contacts;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod invite;
pub(crate) mod lines;
pub(crate) mod message;
pub(crate) mod relay;
pub(crate) mod run;
pub(crate) mod send;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod store;
