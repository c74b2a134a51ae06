//! What is done to a cluster: shared by tests, demo and benchmarks, which differ in what they make of it.
//!
//! Each function waits until the cluster is where it should be in the end, and fails with the journals if it
//! does not get there; what happened meanwhile is in the result for the caller to judge.

pub mod boots;
pub mod cables;
pub mod crowds;
pub mod deaths;
pub mod heartbeats;
pub mod moves;
pub mod removals;
pub mod services;
