//! Exact, live metrics of code-generation pipelines.
//!
//! ```text
//!  4 CODEGEN_* topics -> consumer -> decode -> REDUCER (pure): deltas since the last flush
//!                                      | bad       | flush: one store transaction
//!                                      v           v
//!                                 dead letters   deltas + next offsets + event ids + counters
//!                                                  | RECORDER (pure fold, one leader)
//!                                                  v
//!                                             cells: slices and windows -> query API
//!                                                  |
//!  coordination topic <- publisher (outbox relay): EVENT_PUBLISH and PERSIST_METRICS intents
//!       |
//!       v
//!  EXECUTOR -> metrics_recorded topic, analytics table
//! ```
//!
//! `event`, `decode`, `aggregator` and `intent` are pure: no I/O, no clock, no async, no randomness.

// The data path, in its order.
pub mod aggregator;
pub mod decode;
pub mod event;

pub mod log;
pub mod store;

pub mod consumer;
pub mod executor;
pub mod intent;
pub mod outbox;
pub mod pipeline;
pub mod publisher;
pub mod topics;

// The edge and the commands.
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod contract;
pub mod daemon;
pub mod demo;
pub mod generate;
pub mod http;
pub mod telemetry;
